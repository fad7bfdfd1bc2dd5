"""A Hugging Face causal LM as scoring uses it: hidden states first, logits only where asked for."""

from typing import Any

import numpy as np
import torch

_HEAD_ROWS = 128  # logits are materialised for this many positions at a time


class CausalNetwork:
    """The parts of a Hugging Face causal LM that scoring needs: its body and its output head.

    Where the head is not a plain function of the body's last hidden state (soft-capped or scaled
    logits, for instance), the whole model is called instead; which case holds is measured once.

    :param model: a Hugging Face causal LM in evaluation mode.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = next(model.parameters()).device
        self.head_splits = self._head_splits()

    @torch.inference_mode()
    def _head_splits(self) -> bool:
        head = self.model.get_output_embeddings()
        body = self.model.base_model
        if head is None or body is self.model:
            return False
        probe = torch.arange(4, device=self.device)[None] % self.model.config.vocab_size
        whole = self.model(input_ids=probe, use_cache=False).logits.float()
        split = head(body(input_ids=probe, use_cache=False).last_hidden_state).float()
        return split.shape == whole.shape and torch.allclose(split, whole, atol=1e-4, rtol=1e-3)

    @property
    def key_value_heads(self) -> int:
        """Heads of keys and values in each layer: fewer than query heads where these share them."""
        config = self.model.config.get_text_config(decoder=True)
        return getattr(config, "num_key_value_heads", None) or config.num_attention_heads

    def outputs(self, **inputs: Any) -> torch.Tensor:
        """Hidden states (rows, tokens, width), or logits (rows, tokens, vocabulary) where the head
        cannot be split off."""
        if self.head_splits:
            return self.model.base_model(**inputs).last_hidden_state
        return self.model(**inputs).logits

    def logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """Float32 logits (positions, vocabulary) of ``outputs`` (positions, …)."""
        head = self.model.get_output_embeddings() if self.head_splits else torch.nn.Identity()
        return head(outputs).float()

    def log_probs(self, outputs: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
        """Log-probabilities of ``targets`` (positions,) given their ``outputs`` (positions, …)."""
        found = []
        for rows, ids in zip(outputs.split(_HEAD_ROWS), targets.split(_HEAD_ROWS), strict=True):
            logits = self.logits(rows)
            chosen = logits.gather(-1, ids[:, None]).squeeze(-1)
            found.append(chosen - logits.logsumexp(-1))
        return torch.cat(found).cpu().numpy() if found else np.zeros(0, np.float32)
