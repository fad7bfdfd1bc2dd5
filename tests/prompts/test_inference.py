"""Prompt inference: by the gain over all outputs, against likelihoods computed one by one."""

import pytest

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


def test_bad_input(tiny_lm):
    for outputs, prompts in (([], PROMPTS), (OUTPUTS, []), ([" "], PROMPTS), (OUTPUTS, ["a", ""])):
        with pytest.raises(ValueError, match=r"is empty|is blank"):
            rank_prompts(tiny_lm, outputs, prompts)
    with pytest.raises(ValueError, match="outputs is empty"):
        infer_prompts(tiny_lm, [])
