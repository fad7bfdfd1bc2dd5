"""Tokens that were left out of training are found, and no others."""

import pytest
import torch

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.undertrained import keep_tokens, known_tokens, model_key, share_of
from trlm_retrieval.prompts import undertrained
from trlm_retrieval.prompts.undertrained import undertrained_tokens

UNSEEN = [50, 51, 77, 120, 121, 160, 201, 233, 268, 301, 340, 377]


@pytest.fixture(scope="module")
def lm(make_tiny_lm):
    """A tiny model that learned to repeat all tokens but twelve, whose embeddings have decayed."""
    made = make_tiny_lm("forward")
    model, tokenizer = made.model, made.tokenizer
    [line_end] = tokenizer("\n")["input_ids"]
    seen = torch.tensor([i for i in range(2, len(tokenizer)) if i not in UNSEEN])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(250):
        tokens = seen[torch.randint(len(seen), (64, 1), generator=generator)]
        pair = torch.cat([tokens, torch.full_like(tokens, line_end)], 1)
        ids = torch.cat([torch.zeros_like(tokens), pair.repeat(1, 4)], 1)
        labels = ids.clone()
        labels[:, :2] = -100
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    vectors = model.get_input_embeddings().weight
    with torch.no_grad():
        noise = torch.randn(len(UNSEEN), vectors.shape[1], generator=generator)
        vectors[UNSEEN] = vectors.mean(0) + 0.01 * noise
    return TimeReversedLM(model, tokenizer)


def test_tokens_that_were_never_seen_are_found(lm, monkeypatch):
    monkeypatch.setattr(undertrained, "_CLUSTER_SIZE", 20)
    done = []
    found = undertrained_tokens(lm, examined=20, progress=done.append)
    assert sum(done) >= 220
    unseen, learned = found[: len(UNSEEN)], found[len(UNSEEN) :]
    assert {token.id for token in unseen} == set(UNSEEN)
    assert all(token.distance < 0.1 and token.repeat_log_prob < -3 for token in unseen)
    # 5 % of the learned ones count as failing too: they come last, and are told by their distance
    assert all(token.distance > 0.5 and token.repeat_log_prob > -2 for token in learned)
    assert all(token.text == lm.tokenizer.decode([token.id]) for token in found)


def test_their_cluster_leads_to_those_that_were_not_examined(lm, monkeypatch):
    monkeypatch.setattr(undertrained, "_CLUSTER_SIZE", 20)
    found = undertrained_tokens(lm, examined=6)
    assert {token.id for token in found[: len(UNSEEN)]} == set(UNSEEN)
    assert len({token.cluster for token in found}) == 1 and found[0].cluster is not None
    monkeypatch.setattr(undertrained, "_suspect_clusters", lambda *_: set())
    assert len(undertrained_tokens(lm, examined=6)) <= 6


def test_the_share_of_a_text():
    assert share_of([5, 6, 7, 5], {5}) == 0.5
    assert share_of([5], frozenset()) == share_of([], {5}) == 0.0


def test_a_kept_list_is_known_to_all_that_load_the_model(lm, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("TRLM_CACHE", str(tmp_path))
    key = model_key(lm.model, lm.tokenizer)
    assert known_tokens(key) == frozenset()
    path = keep_tokens(key, UNSEEN)
    assert path.is_relative_to(tmp_path) and known_tokens(key) == frozenset(UNSEEN)
    lm.save(tmp_path / "model")
    loaded = TimeReversedLM.from_pretrained(tmp_path / "model", dtype="bfloat16")
    assert loaded.encoder.undertrained == frozenset(UNSEEN)
    path.write_text("[1,")
    assert known_tokens(key) == frozenset() and "damaged" in caplog.text


def test_scores_count_them_and_warn_once(lm, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("TRLM_CACHE", str(tmp_path))
    plain, strange = "A generator yields values one at a time", "kkk zzz"
    asked = "what yields?"
    [unknown, *known] = lm.encoder.encode_texts([f" {text}" for text in (strange, plain, asked)])
    unseen = set(unknown) - set(known[0]) - set(known[1])
    keep_tokens(model_key(lm.model, lm.tokenizer), unseen)
    informed = TimeReversedLM(lm.model, lm.tokenizer)
    pairs = [(asked, plain), (strange, plain), (asked, f"{plain} {strange}")]
    encoded = informed.encode(pairs, max_passage_tokens=40)
    found = informed.score(pairs, max_passage_tokens=40)
    shares = []
    for query, passage in pairs:
        ids = lm.encoder.encode_texts([f" {query}", f" {passage}"])
        shares.append(max(share_of(one, unseen) for one in ids))
    assert [one.undertrained for one in encoded] == pytest.approx(shares)
    assert shares[0] == 0 and min(shares[1:]) > 0.1
    assert caplog.text.count("under-trained") == 1 and "2 of 3" in caplog.text
    caplog.clear()
    informed.score(pairs[:1])
    assert not caplog.text
    sums = [one.sum for one in lm.score(pairs, max_passage_tokens=40)]
    assert [one.sum for one in found] == pytest.approx(sums)  # told, and nothing else


def test_bad_input(lm):
    with pytest.raises(ValueError, match="examined must be positive"):
        undertrained_tokens(lm, examined=0)
