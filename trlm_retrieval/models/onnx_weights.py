"""Int8 ONNX files of BERT models, turned once into ordinary Hugging Face folders.

What onnxruntime's dynamic quantisation writes is read: 8-bit weights ``X_quantized`` with
``X_scale`` and ``X_zero_point``, one of each for the whole matrix or for every column. An export
takes the names of linear layers away, so a weight is placed by the path of the node that uses it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from transformers import BertConfig, BertForSequenceClassification, BertModel

from trlm_retrieval.errors import ModelError

Weights = dict[str, npt.NDArray[Any]]

# The versions of ONNX's operators in which those that are read here mean the same.
_OPSETS = range(11, 21)
_SUFFIX = "_quantized"


def convert_bert(file: Path, heads: int) -> None:
    """
    Write `config.json` and `model.safetensors` beside an int8 ONNX file, in float32.

    The tokenizer's files should lie there already. A model with a classifier becomes a
    cross-encoder, whose scores are its logits. One without becomes a sentence embedder that takes
    the first token's vector and scales it to length 1.

    :param file: the ONNX file.
    :param heads: attention heads in a layer, which weights do not tell.
    :raises ModelError: if the file cannot be read, was quantised in another way, or is not a BERT.
    """
    weights = read_weights(file)
    labels = weights.get("classifier.bias")
    try:
        config = _config(weights, heads, "" if labels is None else "bert.")
        model: Any
        if labels is None:
            model = BertModel(config, add_pooling_layer=False)
            _write_sentence_modules(file.parent, config)
        else:
            config.num_labels = len(labels)
            # Without this, sentence-transformers puts a sigmoid on the scores.
            config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
            model = BertForSequenceClassification(config)
        model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    except (KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{file} does not hold the weights of a BERT with {heads} heads a layer: {reason}"
        ) from error
    model.save_pretrained(file.parent)


def read_weights(file: Path) -> Weights:
    """
    Read the weights of an int8 ONNX file under the names that Hugging Face gives them.

    :param file: the ONNX file.
    :returns: float32 arrays; linear layers of shape (outputs, inputs).
    :raises ModelError: if the file cannot be read or was quantised in another way.
    """
    graph = _read_graph(file)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = {
        name: np.array(value)
        for name, value in stored.items()
        if value.dtype == np.float32 and name.endswith((".weight", ".bias"))
    }
    quantized = 0
    for node in graph.node:
        for name in node.input:
            if name in stored and name.endswith(_SUFFIX):
                place = node.name.strip("/").rpartition("/")[0].replace("/", ".")
                weights[f"{place}.weight"] = _dequantize(file, stored, name, node.op_type)
                quantized += 1
    if not quantized:
        raise _other_scheme(file, f"it holds no weight named …{_SUFFIX}")
    if not any(node.op_type == "Erf" for node in graph.node):
        raise _other_scheme(file, "its activation is not the exact GELU (there is no Erf)")
    return weights


def _read_graph(file: Path) -> onnx.GraphProto:
    try:
        model = onnx.load(str(file), load_external_data=False)
    except (OSError, DecodeError) as error:
        raise ModelError(f"cannot read {file} as ONNX ({error}); download it again") from error
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] not in _OPSETS:
        raise ModelError(
            f"{file} is written for opset {versions[0] if versions else 'none'} of ONNX; opsets "
            f"{_OPSETS.start} to {_OPSETS.stop - 1} can be read: export the model for one of them"
        )
    if any(tensor.data_location == tensor.EXTERNAL for tensor in model.graph.initializer):
        raise _other_scheme(file, "its weights lie in another file")
    return model.graph


def _dequantize(file: Path, stored: Weights, name: str, operator: str) -> npt.NDArray[np.float32]:
    values = stored[name]
    scale = stored.get(name.removesuffix(_SUFFIX) + "_scale")
    zero = stored.get(name.removesuffix(_SUFFIX) + "_zero_point")
    if operator not in ("MatMulInteger", "Gather"):
        raise _other_scheme(file, f"{name} is used by {operator}")
    if values.dtype not in (np.int8, np.uint8) or values.ndim != 2:
        raise _other_scheme(file, f"{name} is {values.dtype} of shape {values.shape}")
    if scale is None or zero is None:
        raise _other_scheme(file, f"{name} has no scale or no zero point")
    one_each = values.shape[1] if operator == "MatMulInteger" else 1
    if scale.size != zero.size or scale.size not in (1, one_each):
        raise _other_scheme(file, f"{name} has {scale.size} scales and {zero.size} zero points")
    dense = (values.astype(np.float32) - zero.astype(np.float32)) * scale.astype(np.float32)
    return np.ascontiguousarray(dense.T if operator == "MatMulInteger" else dense)


def _other_scheme(file: Path, reason: str) -> ModelError:
    return ModelError(
        f"{file} was not written by onnxruntime's dynamic int8 quantisation of a BERT: {reason}; "
        "quantise the exported model with onnxruntime.quantization.quantize_dynamic"
    )


def _config(weights: Weights, heads: int, prefix: str) -> BertConfig:
    vocabulary, width = weights[f"{prefix}embeddings.word_embeddings.weight"].shape
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=sum(name.endswith(".intermediate.dense.weight") for name in weights),
        num_attention_heads=heads,
        intermediate_size=len(weights[f"{prefix}encoder.layer.0.intermediate.dense.bias"]),
        max_position_embeddings=len(weights[f"{prefix}embeddings.position_embeddings.weight"]),
        type_vocab_size=len(weights[f"{prefix}embeddings.token_type_embeddings.weight"]),
    )


def _write_sentence_modules(folder: Path, config: BertConfig) -> None:
    """What sentence-transformers reads: first token, length 1; names that all its versions know."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    pooling = {"word_embedding_dimension": config.hidden_size, "pooling_mode_cls_token": True}
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for n, (path, kind) in enumerate(modules)
        ],
        "sentence_bert_config.json": {
            "max_seq_length": config.max_position_embeddings,
            "do_lower_case": False,
            "model_args": {"add_pooling_layer": False},  # the file holds no such layer
        },
        "1_Pooling/config.json": {**pooling, "pooling_mode_mean_tokens": False},
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
