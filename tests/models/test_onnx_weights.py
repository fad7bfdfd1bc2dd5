"""Int8 ONNX files become Hugging Face folders that say what the files say."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny_bert import HEADS, export_int8, tiny_bert
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from trlm_retrieval.errors import ModelError
from trlm_retrieval.models.onnx_weights import convert_bert

PAIRS = [
    (query, passage)
    for query in ("capital for france", "python sort", "the", "a with")
    for passage in ("paris the capital", "sort with python", "bananas")
]


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory) -> Path:
    file = export_int8(tiny_bert(classifier=True), tmp_path_factory.mktemp("cross-encoder"))
    convert_bert(file, HEADS)
    return file.parent


@pytest.fixture(scope="module")
def embedder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("embedder")
    file = export_int8(tiny_bert(classifier=False), folder, per_channel=True, signed=False)
    convert_bert(file, HEADS)
    return file.parent


def run_onnx(folder: Path, *texts: str) -> np.ndarray:
    """The first output of the ONNX file itself for one text or pair."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    encoded = AutoTokenizer.from_pretrained(folder)(*[[text] for text in texts])
    names = [given.name for given in session.get_inputs()]
    return session.run(None, {name: np.array(encoded[name]) for name in names})[0]


def assert_rounded(found: torch.nn.Module, original: torch.nn.Module) -> None:
    expected = original.state_dict()
    assert found.state_dict().keys() == expected.keys()
    for name, value in found.state_dict().items():
        step = expected[name].abs().max() / 100  # between one and two steps of eight bits
        torch.testing.assert_close(value, expected[name], atol=step.item(), rtol=0)


def test_weights_are_the_original_ones_but_for_rounding(cross_encoder, embedder):
    found = AutoModelForSequenceClassification.from_pretrained(cross_encoder)
    assert found.dtype == torch.float32
    assert_rounded(found, tiny_bert(classifier=True))
    found = AutoModel.from_pretrained(embedder, add_pooling_layer=False)
    assert_rounded(found, tiny_bert(classifier=False))


def test_a_cross_encoder_gives_the_logits_of_the_file(cross_encoder):
    from sentence_transformers import CrossEncoder

    expected = np.array([run_onnx(cross_encoder, *pair)[0, 0] for pair in PAIRS])
    found = CrossEncoder(str(cross_encoder), device="cpu").predict(PAIRS)
    original = tiny_bert(classifier=True)
    given = AutoTokenizer.from_pretrained(cross_encoder)(
        *map(list, zip(*PAIRS, strict=True)), padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        logits = original(**given).logits[:, 0].numpy()
    np.testing.assert_allclose(found, logits, atol=0.1)
    # The file's own products of bytes saturate on processors without VNNI, so it is less exact.
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(found, expected, atol=0.2)
    assert np.corrcoef(found, expected)[0, 1] > 0.9


def test_an_embedder_gives_the_first_vector_of_the_file(embedder):
    from sentence_transformers import SentenceTransformer

    texts = [text for pair in PAIRS for text in pair]
    first = np.array([run_onnx(embedder, text)[0, 0] for text in texts])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    model = SentenceTransformer(str(embedder), device="cpu")
    found = model.encode(texts)
    assert model.max_seq_length == 24
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found, first, atol=0.03)


def edited(folder: Path, target: Path, edit) -> Path:
    model = onnx.load(folder / "model.onnx")
    edit(model)
    (target / "model.onnx").write_bytes(model.SerializeToString())
    return target / "model.onnx"


def tensor(model: onnx.ModelProto, ending: str) -> onnx.TensorProto:
    return next(entry for entry in model.graph.initializer if entry.name.endswith(ending))


def set_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 23


def drop_scale(model: onnx.ModelProto) -> None:
    model.graph.initializer.remove(tensor(model, "word_embeddings.weight_scale"))


def fuse(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "MatMulInteger")
    node.op_type = "QAttention"


def change_activation(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Erf":
            node.op_type = "Tanh"


def widen_scale(model: onnx.ModelProto) -> None:
    scale = tensor(model, "word_embeddings.weight_scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.ones(16, np.float32), scale.name))


def move_out(model: onnx.ModelProto) -> None:
    tensor(model, "_quantized").data_location = onnx.TensorProto.EXTERNAL


def forget_a_bias(model: onnx.ModelProto) -> None:
    model.graph.initializer.remove(tensor(model, "classifier.bias"))


def rename_a_weight(model: onnx.ModelProto) -> None:
    tensor(model, "attention.self.query.bias").name = "distilbert.q_lin.bias"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_opset, "opset 23 of ONNX; opsets 11 to 20 can be read"),
        (drop_scale, "dynamic int8.*has no scale or no zero point.*quantize_dynamic"),
        (fuse, "dynamic int8.*is used by QAttention"),
        (change_activation, "dynamic int8.*exact GELU"),
        (widen_scale, "dynamic int8.*has 16 scales and 1 zero points"),
        (move_out, "dynamic int8.*lie in another file"),
        (forget_a_bias, "weights of a BERT with 4 heads a layer"),
        (rename_a_weight, "weights of a BERT.*distilbert"),
    ],
)
def test_other_files_are_refused(cross_encoder, tmp_path, edit, message):
    file = edited(cross_encoder, tmp_path, edit)
    with pytest.raises(ModelError, match=message):
        convert_bert(file, HEADS)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_float_file_a_damaged_one_and_none(cross_encoder, tmp_path):
    with pytest.raises(ModelError, match="holds no weight named …_quantized"):
        convert_bert(cross_encoder / "float.onnx", HEADS)
    (tmp_path / "model.onnx").write_bytes((cross_encoder / "model.onnx").read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"cannot read .*model\.onnx as ONNX.*download it again"):
        convert_bert(tmp_path / "model.onnx", HEADS)
    with pytest.raises(ModelError, match=r"cannot read .*No such file"):
        convert_bert(tmp_path / "none.onnx", HEADS)


def test_heads_that_do_not_divide_the_width(cross_encoder):
    with pytest.raises(ModelError, match="BERT with 3 heads a layer"):
        convert_bert(cross_encoder / "model.onnx", 3)
