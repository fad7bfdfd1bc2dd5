"""Tiny random BERT models, exported to ONNX and quantised on the spot."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

WORDS = ("a", "the", "with", "for", "paris", "france", "capital", "bananas", "python", "sort")
HEADS = 4


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, with BERT's special tokens."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    backend = Tokenizer(models.WordLevel({word: n for n, word in enumerate(vocabulary)}, "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=24,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def tiny_bert(classifier: bool) -> Any:
    """A BERT of two layers, every parameter random: biases of zero would be stored as one."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=4 + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=32,
        max_position_embeddings=24,
        num_labels=1,
    )
    config._attn_implementation = "eager"
    model: Any = (
        BertForSequenceClassification(config)
        if classifier
        else BertModel(config, add_pooling_layer=False)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def export_int8(model: Any, folder: Path, per_channel: bool = False, signed: bool = True) -> Path:
    """Write ``model.onnx``, ``float.onnx`` and a tokenizer to a folder; return the first."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    ids = torch.tensor([[2, 5, 6, 3, 7, 8, 3]])
    names = ["input_ids", "attention_mask", "token_type_ids"]
    forward = model.forward
    model.forward = lambda *given: forward(**dict(zip(names, given, strict=True)))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter, which published files come from
        torch.onnx.export(
            model,
            (ids, torch.ones_like(ids), torch.zeros_like(ids)),
            str(folder / "float.onnx"),
            input_names=names,
            dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
            opset_version=14,
            dynamo=False,
        )
    quantize_dynamic(
        folder / "float.onnx",
        folder / "model.onnx",
        per_channel=per_channel,
        weight_type=QuantType.QInt8 if signed else QuantType.QUInt8,
    )
    word_tokenizer().save_pretrained(folder)
    return folder / "model.onnx"


def embedder_folder(folder: Path, mode: str) -> Path:
    """A folder as sentence-transformers writes it."""
    tiny_bert(classifier=False).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write(
        folder / "modules.json",
        [
            {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for n, (path, kind) in enumerate(kinds)
        ],
    )
    write(
        folder / "sentence_bert_config.json",
        {"max_seq_length": 16, "model_args": {"add_pooling_layer": False}},
    )
    modes = {"mean": "pooling_mode_mean_tokens", "first": "pooling_mode_cls_token"}
    write(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 16, **{name: key == mode for key, name in modes.items()}},
    )
    return folder


def write(file: Path, value: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")
