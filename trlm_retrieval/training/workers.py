"""The processes that train together: one, or those that `torchrun` started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

from trlm_retrieval.models.loading import choose_device


@dataclass(frozen=True)
class Workers:
    """This process, and how many there are.

    :ivar rank: its number; 0 writes files and reports.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def hardware(self) -> str:
        """What the processes run on, for the record."""
        if self.device.type == "cuda":
            return f"{self.count} × {torch.cuda.get_device_name(self.device)}"
        return f"{self.device.type.upper()}, {self.count * torch.get_num_threads()} threads"

    def total(self, *values: float) -> list[float]:
        """The sum of each value over all processes."""
        if self.count == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(summed)
        return summed.tolist()

    def agreed(self, value: float) -> float:
        """The first process's value, in all of them."""
        return self.total(value if self.leads else 0.0)[0]

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def join_workers(device: str | None = None) -> Iterator[Workers]:
    """Join the processes that `torchrun` started, one GPU each where there are any.

    :param device: by default CUDA, then MPS, then CPU, whichever is there.
    """
    chosen = choose_device(device)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Workers(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Workers(distributed.get_rank(), count, chosen)
    finally:
        distributed.destroy_process_group()
