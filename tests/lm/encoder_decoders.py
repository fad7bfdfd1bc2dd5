"""Tiny random encoder-decoders of each kind, and what they give for one pair at a time."""

from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    T5GemmaConfig,
    T5GemmaForConditionalGeneration,
)

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.pointer import PointerModel, new_pointer

KINDS = ("pointer", "t5", "bart", "t5gemma")

_WORDS = "how what is the a passage of many things with call exit please write question number"
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def tokenizer(begins: bool = True) -> PreTrainedTokenizerFast:
    """Word pieces, in ``[CLS]`` and ``[SEP]`` as of BERT, or with the latter alone as of T5."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *_WORDS.split(), *_LETTERS, *"?.,:"]
    words = list(dict.fromkeys(words + [f"##{letter}" for letter in _LETTERS]))
    backend = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]" if begins else "$A [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
    if begins:
        special |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def model(kind: str, **settings: Any) -> Any:
    """A tiny random model of a kind; ``settings`` go to its configuration."""
    torch.manual_seed(0)
    size = len(tokenizer())
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    bert = {
        "vocab_size": size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
    }
    if kind == "pointer":
        encoder = BertModel(BertConfig(**bert))
        return new_pointer(encoder, decoder_heads=4, decoder_mlp=64, max_target=32, **settings)
    if kind == "t5":
        shape = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
        start = {"decoder_start_token_id": 0, **settings}
        return T5ForConditionalGeneration(T5Config(vocab_size=size, **shape, **start))
    if kind == "bart":
        shape = {f"{part}_layers": 2 for part in ("encoder", "decoder")}
        shape |= {f"{part}_attention_heads": 4 for part in ("encoder", "decoder")}
        shape |= {f"{part}_ffn_dim": 64 for part in ("encoder", "decoder")}
        start = {"decoder_start_token_id": 3, "max_position_embeddings": 64, **settings}
        return BartForConditionalGeneration(
            BartConfig(vocab_size=size, d_model=32, init_std=0.3, **shape, **ids, **start)
        )
    part = {**bert, "num_key_value_heads": 2, "head_dim": 8}
    start = {"decoder_start_token_id": 2, **settings}
    return T5GemmaForConditionalGeneration(
        T5GemmaConfig(encoder=part, decoder=dict(part), vocab_size=size, **ids, **start)
    )


def tiny(kind: str, order: str = "forward", token_budget: int = 64) -> TimeReversedLM:
    """A tiny random scorer of a kind."""
    return TimeReversedLM(
        model(kind), tokenizer(kind in ("pointer", "bart")), order=order, token_budget=token_budget
    )


@torch.inference_mode()
def naive(lm: TimeReversedLM, pairs: Any, direction: str | None = None) -> list[np.ndarray]:
    """Log-probabilities of each pair's target, one pair at a time, in natural order."""
    found = []
    for pair in lm.encode(pairs, direction):
        *context, start = pair.context
        logits = lm.model(
            input_ids=torch.tensor([context]),
            decoder_input_ids=torch.tensor([[start, *pair.target[:-1]]]),
        ).logits[0]
        if not isinstance(lm.model, PointerModel):  # whose logits are log-probabilities
            logits = logits.float().log_softmax(-1)
        values = logits[range(len(pair.target)), list(pair.target)]
        step = -1 if lm.template(direction).order == "reverse" else 1
        found.append(values.numpy()[::step])
    return found
