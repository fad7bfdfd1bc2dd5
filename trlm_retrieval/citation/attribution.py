"""Attribution: which source, and which sentence of it, supports each sentence of an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from trlm_retrieval.citation.checks import conflicts
from trlm_retrieval.citation.entailment import EntailmentModel, Verdict, contradictions
from trlm_retrieval.citation.markers import MarkedSentence, marked_sentences, with_markers
from trlm_retrieval.citation.search import DEFAULT_SEARCH, SEARCHES, Found, SearchName, search
from trlm_retrieval.citation.support import (
    UNSUPPORTED_BELOW,
    ScoredHalf,
    Support,
    SupportScorer,
    shared_words,
    support_template,
    word_sets,
)
from trlm_retrieval.citation.windows import Window, windows
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.text.sentences import Span
from trlm_retrieval.text.tokens import count_tokens, leading_tokens

_MAX_CLAIM_TOKENS = 256


@dataclass(frozen=True)
class Source:
    """A text that an answer may rest on.

    :ivar heading: what is read ahead of each part of the text, such as its title and a line end.
    """

    id: str
    text: str
    heading: str = ""


@dataclass(frozen=True)
class AttributionSettings:
    """How sentences are attributed.

    :ivar scored: ``claim`` scores the sentence given the source, ``source`` the reverse.
    :ivar search: how the supporting sentence of a cited source is found.
    :ivar score_threshold: a sentence whose best source scores below it is unsupported.
    :ivar top_k: the most sources that a sentence cites.
    :ivar candidates: the most passages scored for a sentence, those that share most words with it;
        sources that a marker names come on top.
    :ivar max_passage_tokens: longer sources are scored in windows of this many tokens.
    :raises ValueError: if a name is unknown or a number is out of its range.
    """

    scored: ScoredHalf = "claim"
    search: SearchName = DEFAULT_SEARCH
    score_threshold: float = UNSUPPORTED_BELOW
    top_k: int = 1
    candidates: int = 20
    max_passage_tokens: int = 512

    def __post_init__(self) -> None:
        support_template(self.scored, False)
        if self.search not in SEARCHES:
            raise ValueError(f"search must be one of {', '.join(SEARCHES)}, not {self.search!r}")
        for name in ("top_k", "candidates", "max_passage_tokens"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")


@dataclass(frozen=True)
class _Passage:
    """A window of a source, and the text of it that is scored, heading included."""

    source: Source
    window: Window

    @property
    def text(self) -> str:
        return self.source.heading + self.window.span.of(self.source.text)

    @property
    def sentences(self) -> list[str]:
        """Its sentences, joined the text of the window."""
        return self.window.pieces(self.source.text)

    def quote(self, found: Found) -> Span:
        """Where the sentences that were found stand in the source."""
        sentences = self.window.sentences
        return Span(sentences[found.start].start, sentences[found.stop - 1].end)


class Attribution:
    """One answer: its sentences, and what was found for them.

    :param sources: by the numbers that markers use.
    """

    def __init__(self, text: str, sources: Mapping[int, Source]) -> None:
        self.text = text
        self.sources = sources
        self.marked: list[MarkedSentence] = marked_sentences(text, sources)
        self._claims: list[str] = []
        self._cut_characters = [0] * len(self.marked)
        self._passages: dict[int, list[_Passage]] = {}
        self._supports: list[dict[int, tuple[Support, _Passage]]] = [{} for _ in self.marked]
        self._found: list[dict[int, Found]] = [{} for _ in self.marked]
        self._verdicts: list[dict[int, Verdict]] = [{} for _ in self.marked]

    def sentences(self, score_threshold: float) -> list[dict[str, Any]]:
        """What was found for each sentence, as ``TRLMCitationAttributor`` documents it."""
        return [self._sentence(position, score_threshold) for position in range(len(self.marked))]

    def with_citations(self, sentences: Sequence[dict[str, Any]]) -> str:
        """The text with the citations of its :meth:`sentences` in place of its own markers."""
        cited = {
            sentence.span: [citation["number"] for citation in found["citations"]]
            for sentence, found in zip(self.marked, sentences, strict=True)
        }
        return with_markers(self.text, cited, self.sources)

    def _read(self, known: dict[Source, list[_Passage]], lm: TimeReversedLM, tokens: int) -> None:
        """Cut sources into passages, and overlong sentences to what the model reads."""
        for number, source in self.sources.items():
            if source not in known:
                cut = windows(source.text, tokens, partial(count_tokens, lm.tokenizer))
                known[source] = [_Passage(source, window) for window in cut]
            self._passages[number] = known[source]
        most = min(_MAX_CLAIM_TOKENS, lm.max_context // 4)
        read = [leading_tokens(lm.tokenizer, sentence.text, most) for sentence in self.marked]
        self._claims = [claim for claim, _ in read]
        self._cut_characters = [left_out for _, left_out in read]

    def _candidates(self, most: int) -> list[list[tuple[int, _Passage]]]:
        """For each sentence the passages to score: those that share most words with it, and the
        best one of each source that a marker of the sentence names."""
        everything = [
            (number, passage) for number, passages in self._passages.items() for passage in passages
        ]
        if len(everything) <= most:
            return [everything for _ in self.marked]
        there = [word_sets(passage.text) for _, passage in everything]
        chosen = []
        for claim, sentence in zip(self._claims, self.marked, strict=True):
            wanted = word_sets(claim)
            shared = [shared_words(wanted, found) for found in there]
            ranked = sorted(range(len(everything)), key=lambda i: -shared[i])
            kept = ranked[:most]
            for number in set(sentence.numbers) - {everything[i][0] for i in kept}:
                kept += [i for i in ranked if everything[i][0] == number][:1]
            chosen.append([everything[i] for i in kept])
        return chosen

    def _sentence(self, position: int, score_threshold: float) -> dict[str, Any]:
        sentence, by_number = self.marked[position], self._supports[position]
        best = _best_first(by_number)[0][1][0] if by_number else None
        citations = [
            self._citation(number, *by_number[number], found, self._verdicts[position].get(number))
            for number, found in self._found[position].items()
        ]
        differs = conflicts(sentence.text, [found["quote"] for found in citations])
        return {
            "text": sentence.span.of(self.text),
            "start": sentence.span.start,
            "end": sentence.span.end,
            "supported": best is not None and best.score >= score_threshold,
            "score": best.score if best else None,
            "gain": best.gain if best else None,
            "conflicts": differs + contradictions(self._verdicts[position]),
            "cut_characters": self._cut_characters[position],
            "citations": citations,
            "markers": [
                self._marker(number, by_number.get(number), score_threshold)
                for number in sentence.numbers
            ],
        }

    def _citation(
        self,
        number: int,
        support: Support,
        passage: _Passage,
        found: Found,
        verdict: Verdict | None,
    ) -> dict[str, Any]:
        quote = passage.quote(found)
        citation = {
            "document_id": passage.source.id,
            "number": number,
            "start": quote.start,
            "end": quote.end,
            "quote": quote.of(passage.source.text),
            "score": support.score,
            "gain": support.gain,
            "quote_score": found.score,
        }
        return citation if verdict is None else {**citation, "nli": verdict._asdict()}

    def _marker(
        self, number: int, found: tuple[Support, _Passage] | None, score_threshold: float
    ) -> dict[str, Any]:
        source = self.sources.get(number)
        return {
            "number": number,
            "document_id": source.id if source else None,
            "score": found[0].score if found else None,
            "supported": found is not None and found[0].score >= score_threshold,
        }


def attribute(
    attributions: Sequence[Attribution],
    lm: TimeReversedLM,
    settings: AttributionSettings,
    nli: EntailmentModel | None = None,
) -> None:
    """Score all sentences of all answers, then search where the cited sources support them.

    :param nli: says of each sentence whether its quotes entail or contradict it.
    """
    window_tokens = min(settings.max_passage_tokens, lm.max_context // 2)
    known: dict[Source, list[_Passage]] = {}
    for attribution in attributions:
        attribution._read(known, lm, window_tokens)
    scorer = SupportScorer(
        partial(lm.score, max_passage_tokens=window_tokens),
        support_template(settings.scored, lm.default_direction == "ba"),
    )
    wanted = [
        (attribution, position, number, passage)
        for attribution in attributions
        for position, candidates in enumerate(attribution._candidates(settings.candidates))
        for number, passage in candidates
    ]
    supports = scorer.score([(a._claims[i], passage.text) for a, i, _, passage in wanted])
    for (attribution, position, number, passage), support in zip(wanted, supports, strict=True):
        best = attribution._supports[position].get(number)
        if best is None or support.score > best[0].score:
            attribution._supports[position][number] = (support, passage)
    cited = [
        (attribution, position, number, passage)
        for attribution in attributions
        for position, by_number in enumerate(attribution._supports)
        for number, (support, passage) in _best_first(by_number)[: settings.top_k]
        if support.score >= settings.score_threshold
    ]
    tasks = [(a._claims[i], passage.sentences) for a, i, _, passage in cited]
    for (attribution, position, number, _), found in zip(
        cited, search(settings.search, tasks, scorer), strict=True
    ):
        attribution._found[position][number] = found
    if nli is not None:
        quotes = [p.quote(a._found[i][n]).of(p.source.text) for a, i, n, p in cited]
        verdicts = nli.verdicts(
            [(quote, claim) for quote, (claim, _) in zip(quotes, tasks, strict=True)]
        )
        for (attribution, position, number, _), verdict in zip(cited, verdicts, strict=True):
            attribution._verdicts[position][number] = verdict


def _best_first(
    by_number: dict[int, tuple[Support, _Passage]],
) -> list[tuple[int, tuple[Support, _Passage]]]:
    return sorted(by_number.items(), key=lambda item: (-item[1][0].score, item[0]))
