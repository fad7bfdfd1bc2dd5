"""From a pair of texts and a template to token ids: the context, then the target."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from trlm_retrieval.lm.template import FIELD, Order, Template
from trlm_retrieval.lm.undertrained import share_of
from trlm_retrieval.text.normalise import normalise


@dataclass(frozen=True)
class EncodedPair:
    """A pair as the model reads it.

    ``context`` and ``target`` are token ids in *reading* order of the model (reversed for Ba),
    the start token included in the context. ``cut_tokens`` counts the passage tokens left out.
    ``undertrained`` is the share, 0 to 1, of the query's or the passage's tokens that are
    under-trained, whichever is larger; from 0.1 on the likelihood means little. It is 0 where no
    list is known for the model (`trlm prompt tokens` makes one).
    """

    context: tuple[int, ...]
    target: tuple[int, ...]
    cut_tokens: int
    undertrained: float = 0.0


class PairEncoder:
    """Encodes pairs for one tokenizer and one context length.

    Prompt parts, query and passage are tokenised apart from each other. So the text that a user
    supplies cannot merge with the prompt, special tokens written inside it are encoded as plain
    text, and a passage's token ids do not depend on the query.

    :param tokenizer: a Hugging Face fast tokenizer.
    :param start_ids: start token of each reading order; its likelihood is never scored.
    :param max_context: longest sequence the model takes, in tokens.
    :param undertrained: tokens to be counted.
    """

    def __init__(
        self,
        tokenizer: Any,
        start_ids: dict[Order, int],
        max_context: int,
        undertrained: frozenset[int] = frozenset(),
    ) -> None:
        self.start_ids = start_ids
        self.max_context = max_context
        self.undertrained = undertrained
        # Copies of our own: their settings are fixed here, so threads can share them.
        serialized = tokenizer.backend_tokenizer.to_str()
        self._prompts = Tokenizer.from_str(serialized)
        self._texts = Tokenizer.from_str(serialized)
        self._texts.encode_special_tokens = True  # written in a text, they are plain text
        for copy in (self._prompts, self._texts):
            copy.no_padding()
            copy.no_truncation()

    def encode_texts(self, texts: list[str]) -> list[list[int]]:
        """Token ids of user texts; every distinct text is tokenised once."""
        distinct = list(dict.fromkeys(texts))
        encodings = self._texts.encode_batch_fast(
            [normalise(text) for text in distinct], add_special_tokens=False
        )
        known = {text: encoding.ids for text, encoding in zip(distinct, encodings, strict=True)}
        return [known[text] for text in texts]

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a piece of a template; special tokens written there are meant."""
        ids: list[int] = self._prompts.encode(text, add_special_tokens=False).ids
        return ids

    def encode(
        self,
        pairs: Sequence[tuple[str, str]],
        template: Template,
        max_passage_tokens: int | None = None,
    ) -> list[EncodedPair]:
        """Encode (query, passage) pairs; only the passage is ever cut, and its beginning is kept.

        A quarter of the context length is set aside for the query, or more when a query is
        longer, so a passage is cut at the same place for all queries of ordinary length.

        :raises ValueError: when a query leaves no room for the passage, or ``max_passage_tokens``
            is not positive.
        """
        if max_passage_tokens is not None and max_passage_tokens <= 0:
            raise ValueError(f"max_passage_tokens must be positive, not {max_passage_tokens}")
        parts = {
            name: _Part(self, text, name)
            for name, text in zip(template.fields, (template.context, template.target), strict=True)
        }
        queries = parts["query"].encode([query for query, _ in pairs])
        passages = parts["passage"].encode([passage for _, passage in pairs])
        prompt_tokens = sum(part.prompt_tokens for part in parts.values())
        prompt_tokens += 1 + len(template.soft_tokens)  # the start token
        encoded = []
        for query, passage in zip(queries, passages, strict=True):
            reserved = max(len(query), self.max_context // 4)
            room = self.max_context - prompt_tokens - reserved
            if room <= 0:
                raise ValueError(
                    f"the query has {len(query)} tokens and leaves no room for a passage in the "
                    f"model's context of {self.max_context} tokens; shorten the query or use a "
                    "model with a longer context"
                )
            if max_passage_tokens is not None:
                room = min(room, max_passage_tokens)
            kept = {"query": query, "passage": passage[:room]}
            context, target = (parts[name].wrap(kept[name]) for name in template.fields)
            if template.order == "reverse":
                context, target = context[::-1], target[::-1]
            start = self.start_ids[template.order]
            encoded.append(
                EncodedPair(
                    (start, *context, *template.soft_tokens),
                    tuple(target),
                    max(0, len(passage) - room),
                    max(share_of(ids, self.undertrained) for ids in kept.values()),
                )
            )
        return encoded

    def prior_context(self, template: Template) -> tuple[int, ...]:
        """The context with nothing in its placeholder, from which the prior is read."""
        context = _Part(self, template.context, template.fields[0]).wrap([])
        if template.order == "reverse":
            context = context[::-1]
        return (self.start_ids[template.order], *context, *template.soft_tokens)


class _Part:
    """One half of a template: prompt tokens before and after the text that a user supplies."""

    def __init__(self, encoder: PairEncoder, text: str, name: str) -> None:
        match = FIELD.search(text)
        assert match is not None and match.group(2) == name
        self._encoder = encoder
        self._lead = match.group(1)
        self._before = encoder.encode_prompt(text[: match.start()])
        self._after = encoder.encode_prompt(text[match.end() :])

    @property
    def prompt_tokens(self) -> int:
        return len(self._before) + len(self._after)

    def encode(self, texts: list[str]) -> list[list[int]]:
        return self._encoder.encode_texts([self._lead + text if text else "" for text in texts])

    def wrap(self, ids: list[int]) -> list[int]:
        return [*self._before, *ids, *self._after]
