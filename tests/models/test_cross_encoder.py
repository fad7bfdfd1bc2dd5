"""Cross-encoders as peers and teachers, with a tiny random one."""

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from trlm_retrieval.errors import ModelError
from trlm_retrieval.models.cross_encoder import CrossEncoder

PAIRS = [
    ("small red tree", "a small red tree"),
    ("large lamp", "the window"),
    ("red", "a small red tree and the large window beside a lamp " * 3),
]


@pytest.fixture(scope="module")
def folder(save_tiny_bert, tmp_path_factory):
    from transformers import BertForSequenceClassification

    texts = [text for pair in PAIRS for text in pair]
    folder = tmp_path_factory.mktemp("cross")
    return save_tiny_bert(BertForSequenceClassification, folder, texts, num_labels=1)


def test_scores_are_those_of_a_plain_loop(folder):
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain = [
        float(model(**tokenizer(q, p, return_tensors="pt")).logits[0, 0].detach()) for q, p in PAIRS
    ]
    done = []
    found = CrossEncoder.from_pretrained(folder, device="cpu").scores(PAIRS, done.append)
    assert found == pytest.approx(plain, abs=1e-5) and sum(done) == len(PAIRS)
    assert len(set(found.tolist())) == len(PAIRS)


def test_what_is_cut_is_counted(folder):
    short = CrossEncoder.from_pretrained(folder, max_tokens=10, device="cpu")
    assert short.cut_tokens(PAIRS) == [0, 0, 3 + 1 + 33 - 10]
    assert short.scores(PAIRS)[2] != CrossEncoder.from_pretrained(folder).scores(PAIRS)[2]
    assert short.cut_tokens([]) == [] and not len(short.scores([]))
    # No more than the model has positions for.
    assert CrossEncoder.from_pretrained(folder).cut_tokens([("red", "tree " * 100)]) == [104 - 64]


def test_the_fingerprint_knows_the_cut(folder):
    found = {
        CrossEncoder.from_pretrained(folder, max_tokens=tokens).fingerprint
        for tokens in (10, 10, 20)
    }
    assert len(found) == 2


def test_other_models_are_refused(folder, save_tiny_bert, tmp_path):
    from transformers import BertForSequenceClassification, BertModel

    encoder = save_tiny_bert(BertModel, tmp_path / "encoder", ["red"])
    with pytest.raises(ModelError, match="no cross-encoder: it has no weights for classifier"):
        CrossEncoder.from_pretrained(encoder)
    three = save_tiny_bert(BertForSequenceClassification, tmp_path / "three", ["red"], num_labels=3)
    with pytest.raises(ModelError, match="gives one score, and this model gives 3"):
        CrossEncoder.from_pretrained(three)
    with pytest.raises(ModelError, match="there is no model at"):
        CrossEncoder.from_pretrained(tmp_path / "nothing")
