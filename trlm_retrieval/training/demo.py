"""A tiny Ba model from a small corpus, to see the whole recipe at work in a few minutes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from trlm_retrieval.files import write_text
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.template import Order
from trlm_retrieval.progress import progress_bar
from trlm_retrieval.training.check import Check, check, order_losses
from trlm_retrieval.training.corpus import PairFile, Section, read_both_halves, section_line
from trlm_retrieval.training.group_finetuning import finetune_groups
from trlm_retrieval.training.groups import make_groups, write_groups
from trlm_retrieval.training.presets import PRESETS
from trlm_retrieval.training.pretraining import pretrain
from trlm_retrieval.training.recipe import Options
from trlm_retrieval.training.run import Run
from trlm_retrieval.training.schedule import Schedule
from trlm_retrieval.training.shards import pack
from trlm_retrieval.training.tokenizer import train_tokenizer
from trlm_retrieval.training.workers import Workers

STEPS = 400  # of each of the two runs

_PRESET = "tiny"
_WORDS = 50  # in a passage
_TOKENS = 64  # the most that is read of one
_GROUP = 8  # pairs whose passages are hard to tell apart
_CHECKED = 10  # one passage in so many is kept back


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    :ivar pretraining, finetuning: the two runs; the second holds the model.
    :ivar flip: nats per token of held-out text read in each order, after pre-training.
    :ivar check: the model on held-out (heading, passage) pairs.
    """

    pretraining: Run
    finetuning: Run
    flip: dict[Order, float]
    check: Check


def train_demo(
    sections: Sequence[Section],
    out: Path,
    workers: Workers,
    *,
    pretraining_steps: int = STEPS,
    finetuning_steps: int = STEPS,
    show_progress: bool = False,
) -> DemoResult:
    """Tokenizer, pre-training on reversed text, fine-tuning on groups of pairs, and a
    check of both.

    :param sections: the corpus; cut into short passages, each under its section's heading.
    """
    passages = list(_cut(sections))
    checked = [piece for piece in passages if _kept_back(piece)]
    learned = [piece for piece in passages if not _kept_back(piece)]
    out.mkdir(parents=True, exist_ok=True)
    pairs = out / "pairs.jsonl"
    write_text(pairs, "".join(map(section_line, learned)))
    pack(learned, train_tokenizer(learned, vocabulary=2048), out / "shards")
    rate = PRESETS[_PRESET].learning_rate

    def options(steps: int, rate: float) -> Options:
        schedule = Schedule(steps=steps, learning_rate=rate)
        return Options(schedule, workers, precision="float32", show_progress=show_progress)

    first = pretrain(
        out / "shards",
        out / "pretrained",
        options(pretraining_steps, 2 * rate),
        preset=_PRESET,
        context=128,
        max_context=256,
        batch_tokens=1024,
        device_tokens=1024,
    )
    device = workers.device
    lm = TimeReversedLM.from_pretrained(first.model_folder, dtype="float32", device=device)
    flip = order_losses(lm, [piece.text for piece in checked])
    groups = [
        group for half in read_both_halves([PairFile(pairs)]) for group in make_groups(half, _GROUP)
    ]
    write_groups(groups, out / "groups.jsonl")
    second = finetune_groups(
        first.model_folder,
        out / "groups.jsonl",
        out / "finetuned",
        options(finetuning_steps, rate),
        groups_a_step=4,
    )
    lm = TimeReversedLM.from_pretrained(second.model_folder, dtype="float32", device=device)
    with progress_bar("checking", 2 * len(checked), show_progress) as advance:
        found = check(
            lm,
            [(piece.heading, piece.text) for piece in checked],
            max_passage_tokens=_TOKENS,
            progress=advance,
        )
    return DemoResult(first, second, flip, found)


def _kept_back(piece: Section) -> bool:
    return crc32(piece.text.encode()) % _CHECKED == 1  # others than those that training measures on


def _cut(sections: Sequence[Section]) -> Iterator[Section]:
    for section in sections:
        words = section.text.split()
        for start in range(0, len(words), _WORDS):
            piece = words[start : start + _WORDS]
            if len(piece) >= _WORDS // 2:
                yield Section(section.heading, " ".join(piece))
