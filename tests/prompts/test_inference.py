"""Prompt inference: by the gain over all outputs, against likelihoods and Bayes' rule by hand."""

import numpy as np
import pytest
import torch

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.generation import Sampling, generate_queries, question_template
from trlm_retrieval.prompts.inference import infer_prompts, rank_prompts

OUTPUTS = ["A generator yields values.", "The with statement calls exit.", "Insertion order."]
PROMPTS = ["How does with call exit?", "What yields values?", "Why?"]


def test_prompts_are_ranked_by_their_mean_gain(tiny_lm):
    found = rank_prompts(tiny_lm, OUTPUTS, [*PROMPTS, PROMPTS[0]])
    assert len(found) == 3
    for candidate in found:
        scored = [
            tiny_lm.score([(candidate.text, output)], question_template(tiny_lm), prior=True)[0]
            for output in OUTPUTS
        ]
        gain = sum(one.gain for one in scored) / 3
        assert candidate.gain == pytest.approx(gain, abs=1e-3)
        assert candidate.log_likelihood == pytest.approx(sum(o.sum for o in scored) / 3, abs=1e-3)
        assert candidate.prior == pytest.approx(scored[0].sum - scored[0].gain, abs=1e-3)
        assert candidate.cut_tokens == 0
    [cut] = rank_prompts(tiny_lm, ["word " * 300, OUTPUTS[0]], PROMPTS[:1], max_output_tokens=10)
    assert cut.cut_tokens > 100
    gains = [candidate.gain for candidate in found]
    assert gains == sorted(gains, reverse=True)


def test_candidates_come_from_every_output(tiny_lm):
    sampling = Sampling(max_tokens=5, seed=2)
    done = []
    found = infer_prompts(tiny_lm, OUTPUTS, number=3, sampling=sampling, progress=done.append)
    written = generate_queries(
        tiny_lm, OUTPUTS, 3, direction=question_template(tiny_lm), sampling=sampling
    )
    assert {c.text for c in found} == {q.text for queries in written for q in queries}
    assert sum(done) == 3
    assert found == rank_prompts(tiny_lm, OUTPUTS, [q.text for qs in written for q in qs])


def test_the_prior_corrects_for_prompts_that_are_always_likely(tiny_lm):
    found = rank_prompts(tiny_lm, OUTPUTS, PROMPTS)
    by_likelihood = sorted(found, key=lambda candidate: -candidate.log_likelihood)
    assert by_likelihood[0].text == "Why?"  # the shortest, whatever the outputs are
    assert [c.text for c in by_likelihood] != [c.text for c in found]


def forward_table(lm, outputs, prompts):
    """log P(output | prompt) and log P(prompt) of a forward model, each text read on its own."""

    def read(*texts):
        ids = [0, *(token for text in texts for token in lm.tokenizer(text)["input_ids"])]
        with torch.no_grad():
            log_probs = lm.model(input_ids=torch.tensor([ids])).logits.double().log_softmax(-1)[0]
        return float(log_probs[:-1].gather(1, torch.tensor(ids)[1:, None]).sum())

    alone = np.array([read(prompt) for prompt in prompts])
    both = np.array([[read(prompt, output) for prompt in prompts] for output in outputs])
    return both - alone, alone - np.logaddexp.reduce(alone)


def learned(made, weights, outputs, prompts):
    """A reverse model that was shown each prompt after each output, as often as it is right.

    :param weights: P(prompt | output); the last row is P(prompt), learned with nothing before it.
    """
    pairs = made.encode([(prompt, output) for output in outputs for prompt in prompts], "ba")
    nothing = made.encoder.prior_context(made.template("ba"))
    rows = [(pair.context, pair.target) for pair in pairs]
    rows += [(nothing, pair.target) for pair in pairs[: len(prompts)]]
    longest = max(len(context) + len(target) for context, target in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    for place, (context, target) in enumerate(rows):
        whole = torch.tensor([*context, *target])
        ids[place, : len(whole)] = whole
        labels[place, len(context) : len(whole)] = whole[len(context) :]
    share = torch.tensor(weights, dtype=torch.float32).flatten()
    optimizer = torch.optim.AdamW(made.model.parameters(), lr=1e-2, weight_decay=0)
    for _ in range(150):
        logits = made.model(input_ids=ids).logits[:, :-1].transpose(1, 2)
        loss = torch.nn.functional.cross_entropy(logits, labels[:, 1:], reduction="none").sum(1)
        (loss * share).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return TimeReversedLM(made.model, made.tokenizer, order="reverse")


def test_an_ideal_reverse_model_finds_what_bayes_rule_finds(make_tiny_lm):
    """Brute force over all prompts with a random forward model, against one reverse step each."""
    prompts, outputs = ["values", "raises", "exit", "a time"], ["is done", "one at", "with"]
    forward = make_tiny_lm("forward", initializer_range=0.2)
    given, prior = forward_table(forward, outputs, prompts)
    joint = given + prior
    posterior = joint - np.logaddexp.reduce(joint, axis=1)[:, None]
    taught = np.exp([*posterior, prior])
    reverse = learned(make_tiny_lm("reverse", seed=1), taught, outputs, prompts)
    for output, exact in zip(outputs, posterior, strict=True):
        found = {one.text: one for one in rank_prompts(reverse, [output], prompts)}
        read = [found[prompt].log_likelihood for prompt in prompts]
        assert np.exp(read) == pytest.approx(np.exp(exact), abs=0.05)
        assert np.exp([found[p].prior for p in prompts]) == pytest.approx(np.exp(prior), abs=0.05)
    explained = given.sum(0)  # log P(all outputs | prompt)
    gains = {one.text: one.gain * len(outputs) for one in rank_prompts(reverse, outputs, prompts)}
    read = np.array([gains[prompt] for prompt in prompts])
    assert read - read.mean() == pytest.approx(explained - explained.mean(), abs=0.5)


def test_bad_input(tiny_lm):
    for outputs, prompts in (([], PROMPTS), (OUTPUTS, []), ([" "], PROMPTS), (OUTPUTS, ["a", ""])):
        with pytest.raises(ValueError, match=r"is empty|is blank"):
            rank_prompts(tiny_lm, outputs, prompts)
    with pytest.raises(ValueError, match="outputs is empty"):
        infer_prompts(tiny_lm, [])
