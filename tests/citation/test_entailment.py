"""An NLI model says whether a sentence follows from its quote: labels, cuts, errors, and the way
of its verdicts to the answer."""

import json
from typing import Any

import pytest
import torch
from haystack import Document, Pipeline
from transformers import BertForSequenceClassification, BertModel

from trlm_retrieval.citation.entailment import EntailmentModel, Verdict, contradictions
from trlm_retrieval.components import TRLMCitationAttributor
from trlm_retrieval.errors import ModelError
from trlm_retrieval.pages.citations import citation_page

LABELS = ("entailment", "neutral", "contradiction")
TEXTS = ["The lamp is red.", "The lamp is not red. It stands here."]
DOCUMENTS = [Document(id="lamp", content="The lamp is red. It stands here.")]
EVERYTHING = -1e9


@pytest.fixture
def save_nli(save_tiny_bert, tmp_path):
    """Saves a model that gives the label at a place, whatever it reads; None: a random model."""

    def save(labels: tuple[str, ...], place: int | None) -> str:
        def made(config: Any) -> BertForSequenceClassification:
            model = BertForSequenceClassification(config)
            if place is not None:
                with torch.no_grad():
                    model.classifier.weight.zero_()
                    model.classifier.bias.copy_(4.0 * torch.eye(len(labels))[place])
            return model

        names = dict(enumerate(labels))
        save_tiny_bert(made, tmp_path / "nli", TEXTS, id2label=names)
        return str(tmp_path / "nli")

    return save


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"),
        ("neutral", " Entailment", "contradiction"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_labels_are_found_by_their_names(save_nli, labels, place):
    [verdict] = EntailmentModel.from_pretrained(save_nli(labels, place)).verdicts(
        [("The lamp is red.", "It stands here.")]
    )
    share = torch.tensor([4.0, 0.0, 0.0]).softmax(0)[0].item()
    assert verdict == (labels[place].strip().lower(), pytest.approx(share), 0)


def test_pairs_are_read_in_their_order_and_alone_as_together(save_nli):
    model = EntailmentModel.from_pretrained(save_nli(LABELS, None))
    pairs = [("The lamp is red.", "It stands."), ("It stands.", "The lamp is red."), ("", "The")]
    together = model.verdicts(pairs)
    assert together[0].probability != pytest.approx(together[1].probability, abs=1e-4)
    for pair, verdict in zip(pairs, together, strict=True):
        [alone] = model.verdicts([pair])
        assert alone.label == verdict.label
        assert alone.probability == pytest.approx(verdict.probability, abs=1e-5)
    assert model.verdicts([]) == []


def test_long_premises_and_claims_are_cut_and_counted(save_nli):
    model = EntailmentModel.from_pretrained(save_nli(LABELS, None))  # reads 64 tokens
    premise, claim = "lamp " * 100, "red " * 100
    cut, both, whole = model.verdicts(
        [(premise, "The lamp"), (premise, claim), ("lamp " * 59, "The lamp")]
    )
    assert cut.cut_characters == 5 * 100 - (5 * 59 - 1)  # 59 words, 2 of the claim, 3 special
    assert both.cut_characters == 5 * 100 - (5 * 29 - 1) + 4 * 100 - (4 * 32 - 1)
    assert whole.cut_characters == 0
    assert cut.probability == pytest.approx(whole.probability, abs=1e-6)


def test_the_same_characters_in_other_code_points_are_one_text(save_nli):
    model = EntailmentModel.from_pretrained(save_nli(LABELS, None))
    plain, odd = model.verdicts(
        [("The lamp", "is red"), ("The\u00a0la\u00admp", "is\u2009red\u200b")]
    )
    assert odd == (plain.label, pytest.approx(plain.probability, abs=1e-6), 0)


@pytest.mark.parametrize(
    "labels", [("LABEL_0", "LABEL_1"), ("entailment", "not_entailment"), ("entailment",) * 2]
)
def test_a_model_with_other_labels_is_refused(save_nli, labels):
    with pytest.raises(ModelError, match=f"no NLI model.* but they are {labels[0]}"):
        EntailmentModel.from_pretrained(save_nli(labels, None))


def test_what_is_no_nli_model_is_refused(save_tiny_bert, tiny_lm_folder, tmp_path):
    with pytest.raises(ModelError, match="unknown model 'none'"):
        EntailmentModel.from_pretrained("none")
    with pytest.raises(ModelError, match="there is no model at /none"):
        EntailmentModel.from_pretrained("/none")
    with pytest.raises(ModelError, match="no NLI model: it has no weights for classifier"):
        EntailmentModel.from_pretrained(save_tiny_bert(BertModel, tmp_path / "bert", TEXTS))
    with pytest.raises(ModelError, match="no NLI model: it has no weights for score"):
        EntailmentModel.from_pretrained(tiny_lm_folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="empty' cannot be loaded: give the folder or hub id of"):
        EntailmentModel.from_pretrained(tmp_path / "empty")


def test_contradictions_are_named():
    verdicts = {1: Verdict("entailment", 0.9, 0), 3: Verdict("contradiction", 0.984, 0)}
    assert contradictions(verdicts) == ["the NLI model reads a contradiction of [3] (0.98)"]


class Reader:
    """Takes one claim for contradicted, and notes what it was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def verdicts(self, pairs):
        self.seen += pairs
        return [
            Verdict("contradiction" if "lamp is red" in claim else "entailment", 0.75, 2)
            for _, claim in pairs
        ]


def test_each_verdict_reaches_its_sentence(tiny_lm):
    attributor = TRLMCitationAttributor(tiny_lm, score_threshold=EVERYTHING)
    attributor._nli = Reader()
    replies = ["It stands here [1]. The lamp is red [1].", "It stands."]
    first, second = attributor.run(replies=replies, documents=DOCUMENTS)["answers"]
    sentences = first.meta["trlm"]["sentences"] + second.meta["trlm"]["sentences"]
    quotes = [sentence["citations"][0]["quote"] for sentence in sentences]
    claims = ["It stands here.", "The lamp is red.", "It stands."]
    assert attributor._nli.seen == list(zip(quotes, claims, strict=True))
    assert [sentence["citations"][0]["nli"]["label"] for sentence in sentences] == [
        "entailment",
        "contradiction",
        "entailment",
    ]
    named = [any("NLI" in conflict for conflict in s["conflicts"]) for s in sentences]
    assert named == [False, True, False]
    json.dumps(first.meta["trlm"])
    page = citation_page(first)
    assert "follows from [1] (0.75); the NLI model did not read 2 characters of it" in page
    assert "check this: the NLI model reads a contradiction of [1] (0.75)" in page
    assert page.count(">✓</span>") == 2 and "An NLI model has read each sentence" in page


def test_without_a_model_nothing_of_it_is_told(tiny_lm):
    attributor = TRLMCitationAttributor(tiny_lm, score_threshold=EVERYTHING)
    [found] = attributor.run(replies=["It stands."], documents=DOCUMENTS)["answers"]
    assert "nli" not in found.meta["trlm"]["sentences"][0]["citations"][0]
    assert "NLI" not in citation_page(found)


def test_the_component_loads_it_by_name_and_survives_yaml(save_nli, tiny_lm, tiny_lm_folder):
    folder = save_nli(LABELS, 2)
    attributor = TRLMCitationAttributor(str(tiny_lm_folder), nli=folder, score_threshold=EVERYTHING)
    pipeline = Pipeline()
    pipeline.add_component("citations", attributor)
    again = Pipeline.loads(pipeline.dumps()).get_component("citations")
    assert again.nli == folder
    [found] = again.run(replies=["The lamp is red."], documents=DOCUMENTS)["answers"]
    assert "contradiction of [1]" in found.meta["trlm"]["sentences"][0]["conflicts"][-1]
    with pytest.raises(ModelError, match="unknown model 'none'"):
        TRLMCitationAttributor(tiny_lm, nli="none").warm_up()
