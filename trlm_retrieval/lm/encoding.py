"""From a pair of texts and a template to token ids: the context, then the target."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from trlm_retrieval.errors import ModelError
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


@dataclass(frozen=True)
class EncoderFrame:
    """What stands around the text that an encoder reads, as its tokenizer writes it.

    :ivar before: token ids, such as that of ``[CLS]``.
    :ivar after: token ids, such as that of ``[SEP]`` or ``</s>``.
    :ivar max_target: longest target that the decoder takes, in tokens; None has no limit.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    max_target: int | None


def bos_start(tokenizer: Any) -> dict[Order, str]:
    """The tokenizer's BOS token, or its EOS token, as start of both orders.

    :raises ModelError: if it has neither.
    """
    token = tokenizer.bos_token or tokenizer.eos_token
    if token is None:
        raise ModelError(
            "the tokenizer has neither a BOS nor an EOS token to start a sequence with; name one "
            "under start_tokens in trlm_config.json"
        )
    return {"forward": token, "reverse": token}


class PairEncoder:
    """Encodes pairs for one tokenizer and one context length.

    Prompt parts, query and passage are tokenised apart from each other. So the text that a user
    supplies cannot merge with the prompt, special tokens written inside it are encoded as plain
    text, and a passage's token ids do not depend on the query.

    A decoder reads context and target one after the other, the context reversed where the order is,
    so that both must fit. An encoder reads the context in natural order, in its frame; the start
    token behind it is the one that the decoder begins with.

    :param tokenizer: a Hugging Face fast tokenizer.
    :param start_ids: start token of each reading order; its likelihood is never scored.
    :param max_context: longest sequence the model takes, in tokens.
    :param undertrained: tokens to be counted.
    :param frame: of the encoder; None for a decoder.
    """

    def __init__(
        self,
        tokenizer: Any,
        start_ids: dict[Order, int],
        max_context: int,
        undertrained: frozenset[int] = frozenset(),
        frame: EncoderFrame | None = None,
    ) -> None:
        self.start_ids = start_ids
        self.max_context = max_context
        self.undertrained = undertrained
        self.frame = frame
        # Copies of our own: their settings are fixed here, so threads can share them.
        serialized = tokenizer.backend_tokenizer.to_str()
        self._prompts = Tokenizer.from_str(serialized)
        self._texts = Tokenizer.from_str(serialized)
        self._texts.encode_special_tokens = True  # written in a text, they are plain text
        for copy in (self._prompts, self._texts):
            copy.no_padding()
            copy.no_truncation()

    @property
    def max_query_tokens(self) -> int:
        """Tokens that a query may have without taking a passage's room."""
        if self.frame is None:
            return self.max_context // 4
        return self.frame.max_target or self.max_context

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
        encoded = []
        for query, passage in zip(queries, passages, strict=True):
            room = self._room(template, parts, len(query))
            if max_passage_tokens is not None:
                room = min(room, max_passage_tokens)
            kept = {"query": query, "passage": passage[:room]}
            context, target = (parts[name].wrap(kept[name]) for name in template.fields)
            encoded.append(
                EncodedPair(
                    self._context(context, template),
                    tuple(target[::-1] if template.order == "reverse" else target),
                    max(0, len(passage) - room),
                    max(share_of(ids, self.undertrained) for ids in kept.values()),
                )
            )
        return encoded

    def prior_context(self, template: Template) -> tuple[int, ...]:
        """The context with nothing in its placeholder, from which the prior is read."""
        part = _Part(self, template.context, template.fields[0])
        return self._context(part.wrap([]), template)

    def _context(self, ids: list[int], template: Template) -> tuple[int, ...]:
        """A context as it is read, the start token included."""
        start = self.start_ids[template.order]
        if self.frame is not None:
            return (*self.frame.before, *ids, *self.frame.after, start)
        ordered = ids[::-1] if template.order == "reverse" else ids
        return (start, *ordered, *template.soft_tokens)

    def _room(self, template: Template, parts: dict[str, "_Part"], query: int) -> int:
        """Tokens that a passage may have beside a query of so many.

        :raises ValueError: if there are none.
        """
        if self.frame is not None:
            asked = query + parts["query"].prompt_tokens
            if self.frame.max_target is not None and asked > self.frame.max_target:
                raise ValueError(
                    f"the query has {asked} tokens and the model's decoder takes "
                    f"{self.frame.max_target}; shorten the query"
                )
            around = len(self.frame.before) + len(self.frame.after)
            return max(1, self.max_context - around - parts["passage"].prompt_tokens)
        prompt_tokens = sum(part.prompt_tokens for part in parts.values())
        prompt_tokens += 1 + len(template.soft_tokens)  # the start token
        room = self.max_context - prompt_tokens - max(query, self.max_query_tokens)
        if room <= 0:
            raise ValueError(
                f"the query has {query} tokens and leaves no room for a passage in the "
                f"model's context of {self.max_context} tokens; shorten the query or use a "
                "model with a longer context"
            )
        return room


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
