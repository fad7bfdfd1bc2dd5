"""An encoder-decoder learns to tell hard negatives apart, from the pairs and from a teacher.

Passages of a group share words, and the query names all three words of its own.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForSeq2SeqLM

from tests.lm.encoder_decoders import tiny
from tests.training.killing import Killed, killed_after
from trlm_retrieval.errors import DataError, ModelError
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.training.export import export_run
from trlm_retrieval.training.group_batches import GroupBatches
from trlm_retrieval.training.group_finetuning import GroupLikelihood, divergence, finetune_groups
from trlm_retrieval.training.group_models import begin
from trlm_retrieval.training.groups import Group, make_groups, read_groups, write_groups
from trlm_retrieval.training.run import RunError
from trlm_retrieval.training.teacher import label_groups, read_labels


@pytest.fixture(scope="session")
def group_file(easy_sections, tmp_path_factory) -> Path:
    """Groups of four pairs that share words."""
    file = tmp_path_factory.mktemp("groups") / "groups.jsonl"
    pairs = [(section.heading, section.text) for section in easy_sections]
    groups = make_groups(pairs, 4, least=4)
    held_out = [pair for pair in pairs if Group((pair[0],), (pair[1],)).held_out]
    learned = [
        group
        for group in groups
        if not any(p in held_out for p in zip(group.queries, group.passages, strict=True))
    ]
    write_groups([*learned, *make_groups(held_out, 4)], file)
    return file


@pytest.fixture(scope="session")
def learned(group_file):
    """The groups to learn from."""
    return [group for group in read_groups(group_file) if not group.held_out]


def judge(groups, own, other):
    """Labels that give each query's own passage one score, and the others another."""
    return [
        np.where(np.eye(len(group), dtype=bool), own, other).astype(np.float32) for group in groups
    ]


def write_labels(groups, labels, file):
    class Given:
        def scores(self, pairs):
            return np.array([scores[pair] for pair in pairs])

    scores = {
        (query, passage): table[q, p]
        for group, table in zip(groups, labels, strict=True)
        for q, query in enumerate(group.queries)
        for p, passage in enumerate(group.passages)
    }
    label_groups(groups, Given(), file)
    return file


@pytest.fixture
def train(tiny_encoder, group_file, options, tmp_path):
    """Trains a small model on the groups: ``train("name", steps=4)``."""

    def run(name, steps, told=None, file=group_file, **settings):
        return finetune_groups(
            tiny_encoder,
            file,
            tmp_path / name,
            options(steps, **{"learning_rate": 1e-2, **(told or {})}),
            **{"frozen_encoder_layers": 0, **settings},
        )

    return run


def weights(run):
    return load_file(run.model_folder / "model.safetensors")


def ends(run, term):
    """Means of a term over the first steps and over the last ones."""
    found = [entry[term] for entry in run.entries()]
    return np.mean(found[:3]), np.mean(found[-5:])


@pytest.fixture
def few(learned, group_file, tmp_path):
    """A file of four groups to learn, and those held out."""
    held_out = [group for group in read_groups(group_file) if group.held_out]
    write_groups([*learned[:4], *held_out], tmp_path / "few.jsonl")
    return tmp_path / "few.jsonl"


# Without a copy head nothing is known of the passages at first: chance is log 4 = 1.4 nats.
LEARNS = {"copy": False, "encoder_rate": 1.0}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_learns_to_prefer_its_own_passages(train, few, precision):
    run = train("run", steps=60, file=few, told={"precision": precision}, **LEARNS)
    first, last = ends(run, "contrast")
    assert first > 1.0 and last < 0.5
    assert all(
        value.dtype == torch.float32 for value in weights(run).values() if value.is_floating_point()
    )


def test_bfloat16_rounds_and_no_more(train, few):
    exact, rounded = (
        train(name, steps=3, file=few, told={"precision": name}, **LEARNS).entries()[0]
        for name in ("float32", "bfloat16")
    )
    assert rounded["loss"] == pytest.approx(exact["loss"], rel=0.01)
    assert rounded["loss"] != exact["loss"]


def test_nothing_is_learned_without_gradients(train, few, monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    _, last = ends(train("run", steps=6, file=few, **LEARNS), "contrast")
    assert last > 1.0


def test_a_teacher_moves_the_ranking_its_way(train, few, learned, tmp_path):
    """One that is wrong on purpose: it likes every passage but the right one."""
    labels = write_labels(learned[:4], judge(learned[:4], -8, 8), tmp_path / "labels.jsonl")
    run = train("run", 60, file=few, labels=labels, contrast=0.0, teacher_weight=5.0, **LEARNS)
    first, last = ends(run, "teacher")
    assert last < first / 2
    assert "sharpness" in run.entries()[-1] and "contrast" not in run.entries()[-1]


def test_a_run_holds_a_model_that_goes_on(train, tiny_encoder):
    run = train("run", steps=2)
    again = AutoModelForSeq2SeqLM.from_pretrained(run.model_folder)
    assert type(again).__name__ == "PointerModel"
    before, after = load_file(tiny_encoder / "model.safetensors"), weights(run)
    name = "embeddings.word_embeddings.weight"
    assert before[name].equal(after[f"encoder.{name}"])
    name = "encoder.layer.1.output.dense.weight"
    assert not before[name].equal(after[f"encoder.{name}"])


def test_the_divergence_is_zero_where_model_and_teacher_agree():
    labels = torch.tensor([[3.0, -1.0, torch.nan], [torch.nan, 2.0, torch.nan], [0.0, 1.0, 5.0]])
    agreeing = torch.nan_to_num(labels, nan=9.0) / 2 / 0.5 + torch.tensor([[7.0], [0.0], [-3.0]])
    assert float(divergence(agreeing, labels, 0.5)) == pytest.approx(0, abs=1e-5)
    other = agreeing.clone()
    other[0, 2] += 50  # not scored by the teacher
    assert float(divergence(other, labels, 0.5)) == pytest.approx(0, abs=1e-5)
    other[2, 0] += 5
    assert float(divergence(other, labels, 0.5)) > 0.1


@pytest.mark.parametrize("order", ["reverse", "both"])
def test_a_killed_run_goes_on_with_the_same_weights(train, learned, monkeypatch, tmp_path, order):
    labels = write_labels(learned[:9], judge(learned[:9], 5, -5), tmp_path / "labels.jsonl")
    settings = {"labels": labels, "order": order}
    whole = train("whole", 4, **settings)
    with monkeypatch.context() as patch:
        killed_after(patch, 3)
        with pytest.raises(Killed):
            train("cut", 4, {"checkpoint_minutes": 0}, **settings)
    resumed = train("cut", 4, **settings)
    one, other = weights(whole), weights(resumed)
    assert all(one[name].equal(other[name]) for name in one)
    with pytest.raises(RunError, match="another contrast"):
        train("whole", 4, contrast=0.5, **settings)


def batches(reader, groups, labels=()):
    return GroupBatches(
        groups, labels, reader.encoder(), reader.templates, reader.ends, seed=0, varied=False
    )


def test_both_orders_alternate(tiny_encoder, learned, options):
    reader = begin(tiny_encoder, options(1), order="both")
    source, seen = batches(reader, learned[:3]), Counter()
    first, last = reader.ends["reverse"], reader.ends["forward"]
    for index in range(6):  # every group twice
        batch = source.batch(index)
        start, words = batch.contexts[0][-1], batch.targets[0]
        assert (start, words[-1]) in {(first, last), (last, first)}
        seen[tuple(sorted(words)), start] += 1
    assert len(seen) == 6 and set(seen.values()) == {1}


@pytest.fixture(params=["encoder-decoder", "decoder", "read backwards"])
def reader(request, tiny_encoder, tiny_lm_folder, options):
    """A model that learns from groups, ready to be trained."""
    base = tiny_encoder if request.param == "encoder-decoder" else tiny_lm_folder
    order = "forward" if request.param == "decoder" else "reverse"
    found = begin(base, options(1), order=order)
    found.prepare()
    return found


def test_a_group_is_read_as_scoring_reads_pairs(reader, learned, tmp_path):
    """The likelihoods are those of single pairs, whether the teacher left some out or not."""
    labels = judge(learned[:1], 1, 0)
    labels[0][1:, 0] = np.nan
    source = batches(reader, learned[:2], labels)
    reader.save(tmp_path)
    lm = TimeReversedLM.from_pretrained(tmp_path, dtype="float32")
    for batch, group in zip(map(source.batch, range(2)), learned, strict=False):
        with torch.no_grad():
            sums, ends = reader.log_likelihoods(batch)
        pairs = [(query, passage) for query in group.queries for passage in group.passages]
        found = lm.score(pairs, reader.templates[0], max_passage_tokens=128)
        expected = np.array([likelihood.sum for likelihood in found]).reshape(sums.shape)
        needed = batch.needed.numpy()
        np.testing.assert_allclose(sums.numpy()[needed], expected[needed], atol=1e-3)
        assert needed.sum() == needed.size - 3 * (group is learned[0])
        sequences = list(zip(batch.contexts, batch.targets, strict=True))
        whole = [float(part.sum()) for part in lm.log_probs(sequences)]
        np.testing.assert_allclose((sums.diagonal() + ends).numpy(), whole, atol=1e-3)


def test_the_contrast_is_that_of_scores(reader, learned):
    batch = batches(reader, learned[:1]).batch(0)
    with torch.no_grad():
        sums = reader.log_likelihoods(batch)[0]
        terms = GroupLikelihood(reader)(batch)
    expected = -sums.log_softmax(1).diagonal().sum()
    assert float(terms["contrast"]) == pytest.approx(float(expected), abs=1e-3)


def test_every_term_has_a_gradient(reader, learned):
    objective = GroupLikelihood(reader, teacher=1.0)
    source = batches(reader, learned[:2], judge(learned[:1], 1, 0))
    for index in range(2):
        terms = objective(source.batch(index))
        for name in terms:
            reader.model.zero_grad()
            terms[name].backward(retain_graph=True)
            silent = name == ("contrast", "teacher")[index]
            grads = [p.grad for p in reader.model.parameters() if p.grad is not None]
            moved = sum(float(grad.abs().sum()) for grad in grads)
            assert np.isfinite(moved) and (moved > 0) != silent, name


@pytest.mark.parametrize("rank", [None, 2])
def test_a_decoder_learns_what_a_teacher_likes(
    tiny_lm_folder, few, learned, options, tmp_path, rank
):
    """Of each group it likes the first passage best, whatever the query."""
    liked = [
        np.tile(np.eye(len(group), dtype=np.float32)[0] * 16, (len(group), 1))
        for group in learned[:4]
    ]
    labels = write_labels(learned[:4], liked, tmp_path / "labels.jsonl")
    run = finetune_groups(
        tiny_lm_folder,
        few,
        tmp_path / "run",
        options(60, learning_rate=3e-3 if rank is None else 3e-2),
        labels=labels,
        adapter_rank=rank,
        contrast=0.0,
        teacher_weight=5.0,
    )
    first, last = ends(run, "teacher")
    assert last < first / 2
    lm = TimeReversedLM.from_pretrained(run.model_folder, dtype="float32")
    group = learned[0]
    right = [
        np.argmax([found.sum for found in lm.score([(query, p) for p in group.passages])]) == 0
        for query in group.queries
    ]
    assert sum(right) >= len(group) - 1
    assert (run.model_folder / "adapter_model.safetensors").exists() == (rank is not None)


def test_what_does_not_fit_the_kind_of_model_is_refused(
    tiny_lm_folder, tiny_encoder, train, options, tmp_path
):
    tiny("t5").save(tmp_path / "t5")
    with pytest.raises(ModelError, match=r"a t5 model\. Groups train a decoder"):
        begin(tmp_path / "t5", options(1))
    for told in (
        {"encoder_layers": 1},
        {"frozen_encoder_layers": 1},
        {"encoder_rate": 0.1},
        {"copy": False},
    ):
        with pytest.raises(ValueError, match="is a decoder: leave out encoder_layers"):
            begin(tiny_lm_folder, options(1), **told)
    with pytest.raises(ValueError, match="adapters are for decoders"):
        begin(tiny_encoder, options(1), adapter_rank=2)
    run = train("run", steps=1)
    for told in ({"decoder_layers": 3}, {"encoder_layers": 1}):
        with pytest.raises(ValueError, match="has a decoder already"):
            begin(run.model_folder, options(1), **told)
    assert begin(run.model_folder, options(1)).model.config.decoder_layers == 2


def test_of_an_encoder_the_first_layers_can_be_taken(tiny_encoder, options, train):
    whole = AutoModel.from_pretrained(tiny_encoder).eval()
    depth = whole.config.num_hidden_layers
    ids = torch.tensor([[2, 7, 9, 3]])
    layers = whole(ids, output_hidden_states=True).hidden_states
    for taken in (None, 1):
        model = begin(tiny_encoder, options(1), encoder_layers=taken).model.eval()
        read = model.encode(ids, torch.ones_like(ids)).states
        assert torch.allclose(read, layers[taken or depth], atol=1e-6)
    for taken in (0, depth + 1):
        with pytest.raises(ValueError, match=f"1 to {depth} of the encoder's layers"):
            begin(tiny_encoder, options(1), encoder_layers=taken)
    run = train("run", steps=1, encoder_layers=1)
    assert begin(run.model_folder, options(1)).settings["encoder_layers"] == 1 < depth


def test_an_exported_model_goes_on(train, tmp_path, options):
    run = train("first", steps=1)
    export_run(run.folder, tmp_path / "small", name="small", licence="MIT", precision="int8")
    before, after = (
        begin(folder, options(1)).model.state_dict()
        for folder in (run.model_folder, tmp_path / "small")
    )
    for name, value in before.items():
        assert torch.allclose(value.float(), after[name].float(), atol=0.02), name
    with pytest.raises(ValueError, match="layers can be frozen"):
        train("other", steps=1, frozen_encoder_layers=2)
    assert not (tmp_path / "other").exists()


class CountingTeacher:
    """Scores by the words in common; killed at its n-th group."""

    def __init__(self, killed_at=None):
        self.groups, self.killed_at = 0, killed_at

    def scores(self, pairs):
        self.groups += 1
        if self.groups == self.killed_at:
            raise KeyboardInterrupt
        return np.array([len({*q.split()} & {*p.split()}) for q, p in pairs], np.float32)


def test_labelling_goes_on_after_a_kill(learned, tmp_path):
    groups = learned[:6]
    label_groups(groups, CountingTeacher(), tmp_path / "whole.jsonl")
    with pytest.raises(KeyboardInterrupt):
        label_groups(groups, CountingTeacher(killed_at=4), tmp_path / "cut.jsonl")
    with (tmp_path / "cut.jsonl").open("a") as lines:
        lines.write('{"key": 12')  # half a line
    rest, done = CountingTeacher(), []
    label_groups(groups, rest, tmp_path / "cut.jsonl", progress=done.append)
    assert rest.groups == 3 and done == [3, 1, 1, 1]
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    labels = read_labels(tmp_path / "cut.jsonl", groups)
    assert not np.isnan(labels[0][0]).any() and labels[0][0].argmax() == 0


def test_labels_of_other_groups_are_refused(train, learned, tmp_path):
    labels = write_labels(learned[1:3], judge(learned[1:3], 1, 0), tmp_path / "labels.jsonl")
    with pytest.raises(DataError, match=r"labels\.jsonl, line 1: labels of another file of groups"):
        train("run", steps=1, labels=labels)
    with pytest.raises(DataError, match="another file of groups"):
        label_groups(learned, CountingTeacher(), labels)
