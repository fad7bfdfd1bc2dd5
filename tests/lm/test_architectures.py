"""Decoders of the families that docs/models.md names score as their plain models do."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.conftest import tiny_tokenizer
from tests.lm.naive import naive_log_probs
from trlm_retrieval.lm import PassageStates, TimeReversedLM

SHAPE = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "initializer_range": 0.3,
}
GEMMA = {"sliding_window": 16, "query_pre_attn_scalar": 8}
KEEP_STATES = {
    "llama": True,
    "qwen2": True,
    "qwen3": True,
    "ministral3": True,
    "phi3": True,
    "olmo2": True,
    "granite": True,
    "smollm3": True,
    "lfm2": True,
    "mistral": False,
    "gemma2": False,
    "gemma3_text": False,
    "olmo3": False,
    "qwen3_5_text": False,
    "gpt_neox": False,
    "gpt2": False,
}
MORE = {"mistral": {"sliding_window": 16}, "gemma2": GEMMA, "gemma3_text": GEMMA}
PASSAGES = ["A generator yields values.", "Short.", "A dictionary keeps insertion order. " * 4]
PAIRS = [(query, passage) for passage in PASSAGES for query in ("what yields?", "order")]


@pytest.mark.parametrize("family", KEEP_STATES)
def test_scores_are_those_of_the_plain_model(family):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SHAPE, **MORE.get(family, {})})
    model = AutoModelForCausalLM.from_config(config).float()
    lm = TimeReversedLM(model, tiny_tokenizer(), order="both", token_budget=128)
    assert lm.supports_states is KEEP_STATES[family]
    for direction in ("fo", "ba"):
        expected = [naive_log_probs(lm, *pair, direction) for pair in PAIRS]
        assert np.ptp([found.sum() for found in expected]) > 1
        for megabytes in (0, 100):
            lm.states = PassageStates(megabytes * 1024**2)
            for _ in range(2):  # the second time from kept states, where there are any
                for found, exact in zip(lm.score(PAIRS, direction), expected, strict=True):
                    np.testing.assert_allclose(found.log_probs, exact, atol=1e-3)


def test_each_class_of_the_table_is_tried():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+For\w+|GPT2LMHeadModel)`", page))
    tried = {
        AutoModelForCausalLM._model_mapping[type(AutoConfig.for_model(family))].__name__
        for family in KEEP_STATES
    }
    assert len(named) > 5 and named <= tried | {"T5ForConditionalGeneration"}
