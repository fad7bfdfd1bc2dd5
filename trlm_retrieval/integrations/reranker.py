"""The front door without Haystack: a question, some texts, and the texts in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haystack import Document

from trlm_retrieval.components.ranker import DEFAULT_MAX_PASSAGE_TOKENS, META_KEY, TRLMRanker
from trlm_retrieval.lm import PairScorer, TimeReversedLM
from trlm_retrieval.models.source import DEFAULT_MODEL

_TEXT_KEYS = ("text", "content")


@dataclass(frozen=True)
class TokenGain:
    """One token of the query.

    :ivar gain: how much likelier the passage makes it, in nats.
    """

    token: str
    gain: float


@dataclass(frozen=True)
class RankedPassage:
    """A passage in its place.

    :ivar rank: 1 is the best.
    :ivar index: place in the list that was given.
    :ivar document: what was given there.
    :ivar score: higher is better. Log P(query | passage) in nats, or the mixture with the scores
        that the documents came with; P(relevant), 0 to 1, where the reranker scales scores.
    :ivar log_likelihood: log P(query | passage) in nats; None for a passage without text.
    :ivar cut_tokens: tokens at the passage's end that were not read.
    :ivar token_gains: what each token of the query gains by the passage; empty unless asked for.
    """

    rank: int
    index: int
    document: Any
    text: str
    score: float
    log_likelihood: float | None
    cut_tokens: int
    token_gains: tuple[TokenGain, ...] = ()


class Reranker:
    """
    Ranks texts by how likely the question is, given each of them.

    ```python
    from trlm_retrieval import Reranker

    reranker = Reranker("trlm-small")
    best, *_ = reranker.rank(
        "who wrote the first program?",
        ["Tea has been grown in Asia for ages.", "Ada Lovelace wrote it in 1843."],
    )
    print(best.text, best.score)
    ```

    :param model: a name from `trlm models list`, a folder, a ``.gguf`` file, a hub id, or a loaded
        model.
    :param first_stage_weight: share of the documents' own scores in the result, 0 to 1, where all
        of them have one; by default what the model's folder recommends, else 0.45.
    :param scale_score: make the score P(relevant), between 0 and 1, which compares across queries;
        the order stays. The model must have a calibration; those that ship have.
    :param max_passage_tokens: longer passages are cut at their end, and the cut is counted.
    :param states_megabytes: memory for passages read before, which then cost little; 0 keeps none.
    :param device: "cpu", "cuda", "mps", ...; None takes the best one present.
    :param dtype: "float32", "bfloat16", "float16" or "int8"; by default what suits the device.
    :param token: key of a model hub, for models that are not open to everybody; by default that of
        HF_TOKEN, or of who has logged in.
    :param revision: branch, tag or commit of a hub's model; by default ``main``.
    :param model_kwargs: further arguments of transformers' ``from_pretrained``.
    :raises ModelError: if the model is not there, is no language model, or lacks the calibration
        that ``scale_score`` needs.
    :raises ValueError: if a number is out of its range.
    """

    def __init__(
        self,
        model: str | Path | PairScorer = DEFAULT_MODEL,
        *,
        first_stage_weight: float | None = None,
        scale_score: bool = False,
        max_passage_tokens: int | None = DEFAULT_MAX_PASSAGE_TOKENS,
        states_megabytes: int = 2048,
        device: str | None = None,
        dtype: str | None = None,
        token: str | None = None,
        revision: str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(model, str | Path):
            model = TimeReversedLM.from_pretrained(
                model,
                device=device,
                dtype=dtype,
                states_megabytes=states_megabytes,
                token=token,
                revision=revision,
                model_kwargs=model_kwargs,
            )
        elif revision is not None or model_kwargs:
            raise ValueError("revision and model_kwargs are for a model that is loaded here")
        self._mixing, self._plain = (
            TRLMRanker(
                model,
                first_stage_weight=weight,
                scale_score=scale_score,
                max_passage_tokens=max_passage_tokens,
            )
            for weight in (first_stage_weight, 0.0)
        )
        self._plain.warm_up()

    def rank(
        self, query: str, docs: Sequence[Any], *, top_k: int | None = None, explain: bool = False
    ) -> list[RankedPassage]:
        """
        Put documents in order, the best first.

        :param docs: texts, Haystack Documents, or dicts with `text` and, if there are any, `title`
            and `score`, a first stage's. One without text comes last.
        :param top_k: how many to return at most; None returns all.
        :param explain: also say what each token of the query gains by each passage.
        :raises TypeError: if a document is something else; names its place.
        :raises ValueError: if the query is empty or ``top_k`` is not positive.
        """
        if isinstance(docs, str):
            raise TypeError("docs must be a list of documents, not one string")
        documents = [_document(given, index) for index, given in enumerate(docs)]
        scored = all(document.score is not None for document in documents)
        found = (self._mixing if scored else self._plain).run(
            query, documents, top_k=len(documents) or 1 if top_k is None else top_k, explain=explain
        )["documents"]
        return [
            _ranked(document, docs[int(document.id)], rank)
            for rank, document in enumerate(found, start=1)
        ]


def _document(given: Any, index: int) -> Document:
    """A document whose id is its place in the list."""
    if isinstance(given, str):
        return Document(id=str(index), content=given)
    if isinstance(given, Document):
        return Document(
            id=str(index), content=given.content, meta=dict(given.meta), score=given.score
        )
    if isinstance(given, Mapping):
        text = next((given[key] for key in _TEXT_KEYS if key in given), None)
        if text is None or isinstance(text, str):
            meta = {"title": given["title"]} if given.get("title") else {}
            return Document(id=str(index), content=text, meta=meta, score=given.get("score"))
    raise TypeError(
        f"docs[{index}] is {type(given).__name__}: give a string, a Haystack Document, or a dict "
        "with a string as `text`"
    )


def _ranked(document: Document, given: Any, rank: int) -> RankedPassage:
    measured = document.meta[META_KEY]
    return RankedPassage(
        rank=rank,
        index=int(document.id),
        document=given,
        text=document.content or "",
        score=document.score or 0.0,
        log_likelihood=measured["log_likelihood"],
        cut_tokens=measured["cut_tokens"],
        token_gains=tuple(
            TokenGain(found["token"], found["gain"]) for found in measured.get("token_gains", ())
        ),
    )
