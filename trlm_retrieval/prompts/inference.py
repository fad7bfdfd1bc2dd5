"""Which prompt led to these outputs? Candidates generated backwards, ranked by Bayes' rule.

Every output suggests prompts: samples of P(prompt | output). A prompt that explains all outputs is
told by P(outputs | prompt). By Bayes' rule

    log P(output | prompt) = log P(prompt | output) - log P(prompt) + log P(output),

and the last term is the same for all prompts, so the **gain over the prior** orders them, averaged
over the outputs. Without the prior, short and common prompts win whatever the outputs are. The name
and the use are those of *Time-Reversal Provides Unsupervised Feedback to LLMs* (arXiv 2412.02626);
the correction by the prior is the noisy-channel rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.generation import Sampling, generate_queries, question_template
from trlm_retrieval.lm.likelihood import Progress


@dataclass(frozen=True)
class Candidate:
    """A prompt that may have led to some outputs.

    :ivar gain: log P(prompt | output) - log P(prompt), mean over the outputs, in nats.
    :ivar log_likelihood: log P(prompt | output), mean over the outputs, in nats.
    :ivar prior: log P(prompt), in nats.
    :ivar cut_tokens: of all outputs together, which were too long to be read whole.
    """

    text: str
    gain: float
    log_likelihood: float
    prior: float
    cut_tokens: int


def rank_prompts(
    lm: TimeReversedLM,
    outputs: Sequence[str],
    prompts: Sequence[str],
    *,
    max_output_tokens: int | None = 256,
    progress: Progress | None = None,
) -> list[Candidate]:
    """Order prompts by how well they explain all outputs, the best first.

    :param max_output_tokens: longer outputs are cut at their end.
    :param progress: called with the number of (prompt, output) pairs just scored.
    :raises ValueError: if there is no output or no prompt, or one of them is blank.
    """
    _check(outputs, "outputs")
    _check(prompts, "prompts")
    distinct = list(dict.fromkeys(prompts))
    found = lm.score(
        [(prompt, output) for output in outputs for prompt in distinct],
        question_template(lm),
        prior=True,
        max_passage_tokens=max_output_tokens,
        progress=progress,
    )
    candidates = []
    for i, prompt in enumerate(distinct):
        scored = found[i :: len(distinct)]
        likelihood = sum(one.sum for one in scored) / len(scored)
        gain = sum(one.gain for one in scored) / len(scored)
        cut = sum(one.cut_tokens for one in scored)
        candidates.append(Candidate(prompt, gain, likelihood, likelihood - gain, cut))
    return sorted(candidates, key=lambda candidate: -candidate.gain)


def infer_prompts(
    lm: TimeReversedLM,
    outputs: Sequence[str],
    *,
    number: int = 8,
    sampling: Sampling | None = None,
    max_output_tokens: int | None = 256,
    progress: Progress | None = None,
) -> list[Candidate]:
    """Generate prompts from each output and rank them by all outputs.

    :param number: prompts generated from each output.
    :param sampling: how; by default :class:`~trlm_retrieval.lm.generation.Sampling`'s.
    :param max_output_tokens: longer outputs are cut at their end.
    :param progress: called with the number of outputs just read.
    :raises ValueError: if there is no output, or one is blank.
    """
    _check(outputs, "outputs")
    found = generate_queries(
        lm,
        outputs,
        number,
        direction=question_template(lm),
        sampling=sampling,
        max_passage_tokens=max_output_tokens,
        progress=progress,
    )
    written = [query.text for queries in found for query in queries]
    return rank_prompts(lm, outputs, written, max_output_tokens=max_output_tokens)


def _check(texts: Sequence[str], name: str) -> None:
    if not texts:
        raise ValueError(f"{name} is empty: give at least one")
    if blank := [i for i, text in enumerate(texts) if not text.strip()]:
        raise ValueError(f"{name}[{blank[0]}] is blank: leave it out")
