"""Our encoder-decoder: the encoder reads a passage once, the decoder scores queries against it.

A decoder alone reads the passage anew for every query, or keeps the keys and values of all its
layers. Here a BERT reads the passage; its last hidden states are all that is kept. A small decoder
attends to them and predicts the query. Two things make it small and fast:

* a *copy head* (Vinyals et al., *Pointer Networks*, 2015; See et al., *Get To The Point*, 2017):
  ``P(token) = g · P(copied from the passage) + (1 - g) · P(written)``, so rare words need not be
  learned to be predicted;
* a *two-level output* (Goodman, *Classes for fast maximum entropy training*, 2001):
  ``P(written) = P(class) · P(token | class)`` over 256 classes of similar tokens, so a target's
  probability is exact and costs some 400 products of vectors in place of 30,000.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

_SMALLEST = 1e-20  # of a probability whose logarithm is taken
_CLASSES = 256


class PointerConfig(PreTrainedConfig):
    """Shape of a :class:`PointerModel`.

    :param encoder: the encoder's configuration, as a dict with its ``model_type``.
    :param decoder_layers: layers of the decoder, which is as wide as the encoder.
    :param copy: whether there is a copy head.
    :param max_target: longest target, in tokens.
    """

    model_type = "trlm-pointer"

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        decoder_layers: int = 2,
        decoder_heads: int = 6,
        decoder_mlp: int = 1536,
        copy: bool = True,
        max_target: int = 512,
        **kwargs: Any,
    ) -> None:
        self.encoder = encoder or {"model_type": "bert"}
        kind = AutoConfig.for_model(**self.encoder)
        self.vocab_size: int = kind.vocab_size
        self.hidden_size: int = kind.hidden_size
        self.max_position_embeddings: int = kind.max_position_embeddings
        self.decoder_layers = decoder_layers
        self.decoder_heads = decoder_heads
        self.decoder_mlp = decoder_mlp
        self.copy = copy
        self.max_target = max_target
        super().__init__(**{"is_encoder_decoder": True, **kwargs})


@dataclass(frozen=True)
class EncodedPassages:
    """What the encoder made of some passages.

    :ivar states: shape (passages, positions, width).
    :ivar ids: token ids that the copy head can copy, shape (passages, positions); of states that
        are means over neighbouring tokens (passages, positions, tokens), -1 where there is none.
    :ivar mask: which positions hold a token, shape (passages, positions), bool.
    """

    states: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor


class Earlier:
    """Keys and values that one layer's self-attention made of the tokens read before."""

    def __init__(self) -> None:
        self._held: torch.Tensor | None = None

    @property
    def tokens(self) -> int:
        return 0 if self._held is None else self._held.shape[-2]

    def extended(self, new: torch.Tensor) -> torch.Tensor:
        """With those of the tokens behind, shape (2, targets, heads, tokens, size) as ``new``."""
        self._held = new if self._held is None else torch.cat([self._held, new], -2)
        return self._held

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these targets alone."""
        if self._held is not None:
            self._held = self._held[:, rows]


class SelfAttention(torch.nn.Module):
    """Causal attention among the tokens of each target."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = torch.nn.Linear(width, 3 * width)
        self.output = torch.nn.Linear(width, width)

    def forward(self, hidden: torch.Tensor, earlier: Earlier | None = None) -> torch.Tensor:
        """Shape (targets, tokens, width) to the same.

        :param earlier: of the tokens before, where ``hidden`` holds one token of each target.
        """
        rows, tokens, width = hidden.shape
        parts = self.inputs(hidden).view(rows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        key, value = parts[1:] if earlier is None else earlier.extended(parts[1:])
        found = functional.scaled_dot_product_attention(
            parts[0], key, value, is_causal=earlier is None
        )
        return self.output(found.transpose(1, 2).reshape(rows, tokens, width))


class CrossAttention(torch.nn.Module):
    """Attention from the tokens of targets to the positions of their passage.

    Keys and values are products of the states with a matrix. With few asking tokens it is cheaper
    to multiply the asking side with that matrix and to attend to the states themselves, which
    gives the same.
    """

    factors = ("key", "value")  # whose weights are used by themselves

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_size = heads, width // heads
        self.query = torch.nn.Linear(width, width)
        self.key = torch.nn.Linear(width, width, bias=False)
        self.value = torch.nn.Linear(width, width)
        self.output = torch.nn.Linear(width, width)

    def forward(
        self, hidden: torch.Tensor, states: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """Shape (passages, tokens, width) to the same.

        :param states: shape (passages, positions, width).
        :param bias: added to the scores, shape (passages, 1, positions).
        """
        passages, tokens, width = hidden.shape
        heads, size, positions = self.heads, self.head_size, states.shape[1]
        asking = self.query(hidden).view(passages, tokens, heads, size)
        if tokens * heads * (positions + size) > positions * width:
            keys = self.key(states).view(passages, positions, heads, size).transpose(1, 2)
            values = self.value(states).view(passages, positions, heads, size).transpose(1, 2)
            found = functional.scaled_dot_product_attention(
                asking.transpose(1, 2), keys, values, attn_mask=bias[:, None]
            ).transpose(1, 2)
        else:
            turned = torch.einsum("pths,hsw->pthw", asking, self.key.weight.view(heads, size, -1))
            turned = turned.reshape(passages, tokens * heads, width) * size**-0.5
            weights = torch.baddbmm(bias, turned, states.transpose(1, 2)).softmax(-1)
            seen = torch.bmm(weights, states).view(passages, tokens, heads, width)
            found = torch.einsum("pthw,hsw->pths", seen, self.value.weight.view(heads, size, -1))
            found = found + self.value.bias.view(heads, size)
        return self.output(found.reshape(passages, tokens, width))


class DecoderLayer(torch.nn.Module):
    """Self-attention, attention to the passage, feed-forward; each with its norm in front."""

    def __init__(self, width: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(width) for _ in range(3))
        self.self_attention = SelfAttention(width, heads)
        self.cross_attention = CrossAttention(width, heads)
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(width, mlp), torch.nn.GELU(), torch.nn.Linear(mlp, width)
        )

    def forward(
        self,
        hidden: torch.Tensor,
        states: torch.Tensor,
        bias: torch.Tensor,
        earlier: Earlier | None = None,
    ) -> torch.Tensor:
        """Shape (passages, targets, tokens, width) to the same."""
        shape = hidden.shape
        seen = self.self_attention(self.norms[0](hidden).flatten(0, 1), earlier)
        hidden = hidden + seen.view(shape)
        asking = self.norms[1](hidden).flatten(1, 2)
        hidden = hidden + self.cross_attention(asking, states, bias).view(shape)
        return hidden + self.mlp(self.norms[2](hidden))


class Vocabulary(torch.nn.Module):
    """The tokens' vectors, both where they are read and where they are written, by class.

    :ivar place_of: for each token its place in the table, class × size + number, shape (tokens,).
    """

    place_of: torch.Tensor

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.size = -(-tokens // _CLASSES)
        self.table = torch.nn.Parameter(torch.randn(_CLASSES * self.size, width) * 0.05)
        self.bias = torch.nn.Parameter(torch.zeros(_CLASSES * self.size))
        self.classes = torch.nn.Linear(width, _CLASSES)
        self.members = torch.nn.Linear(width, width)
        self.register_buffer("place_of", torch.arange(tokens, dtype=torch.int32))

    def begin(self, vectors: torch.Tensor) -> None:
        """Take over the vectors of another model, and make classes of similar tokens."""
        order = torch.tensor(_halved(vectors, list(range(len(vectors))), _CLASSES, self.size))
        places = (order >= 0).nonzero().squeeze(1)
        with torch.no_grad():
            self.place_of[order[places]] = places.int()
            self.table.zero_()
            self.table[places] = vectors[order[places]]

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors of tokens, shape (…, width)."""
        return functional.embedding(self.place_of[ids], self.table)

    @property
    def _unused(self) -> torch.Tensor:
        """Places of the table that hold no token, shape (classes, size)."""
        unused = torch.ones(_CLASSES * self.size, dtype=torch.bool, device=self.table.device)
        unused[self.place_of.long()] = False
        return unused.view(_CLASSES, self.size)

    def log_probs(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Log-probability in nats of one token for each row, shape (rows,).

        :param hidden: shape (rows, width).
        """
        places = self.place_of[ids].long()
        number, place = places // self.size, places % self.size
        of_class = self.classes(hidden).log_softmax(-1).gather(1, number[:, None]).squeeze(1)
        order = number.argsort()
        needed, counts = number[order].unique_consecutive(return_counts=True)
        # Unbound, not indexed: an index's gradient is as large as what it is taken from.
        vectors = self.table.view(_CLASSES, self.size, -1)[needed].transpose(1, 2).unbind()
        rows = self.members(hidden)[order].split(counts.tolist())
        logits = torch.cat([row @ part for row, part in zip(rows, vectors, strict=True)])
        logits = logits + self.bias.view(_CLASSES, self.size)[number[order]]
        logits = logits.masked_fill(self._unused[number[order]], -torch.inf)
        found = logits.log_softmax(-1).gather(1, place[order][:, None]).squeeze(1)
        return of_class + torch.empty_like(found).index_copy(0, order, found)

    def all_log_probs(self, hidden: torch.Tensor) -> torch.Tensor:
        """Log-probabilities in nats of all tokens, (…, width) to (…, tokens)."""
        logits = (self.members(hidden) @ self.table.T + self.bias).unflatten(-1, (_CLASSES, -1))
        within = logits.masked_fill(self._unused, -torch.inf).log_softmax(-1)
        found = (self.classes(hidden).log_softmax(-1)[..., None] + within).flatten(-2)
        return found[..., self.place_of.long()]


def _halved(vectors: torch.Tensor, tokens: list[int], parts: int, size: int) -> list[int]:
    """Tokens in ``parts`` classes of ``size`` places, -1 where a place stays empty.

    The tokens are halved across the direction in which they differ most, again and again.
    """
    if parts == 1:
        return tokens + [-1] * (size - len(tokens))
    rows = vectors[tokens].float()
    centred = rows - rows.mean(0)
    direction = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    order = (centred @ direction).argsort(stable=True).tolist()
    middle = len(tokens) // 2
    return [
        place
        for half in (order[:middle], order[middle:])
        for place in _halved(vectors, [tokens[n] for n in half], parts // 2, size)
    ]


class PointerModel(PreTrainedModel):
    """BERT encoder, small decoder, copy head; log P(target | passage) token by token."""

    config_class = PointerConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"

    def __init__(self, config: PointerConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.encoder = AutoModel.from_config(
            AutoConfig.for_model(**config.encoder), add_pooling_layer=False
        )
        self.vocabulary = Vocabulary(config.vocab_size, width)
        self.positions = torch.nn.Embedding(config.max_target, width)
        self.read_norm = torch.nn.LayerNorm(width)
        self.layers = torch.nn.ModuleList(
            DecoderLayer(width, config.decoder_heads, config.decoder_mlp)
            for _ in range(config.decoder_layers)
        )
        self.norm = torch.nn.LayerNorm(width)
        if config.copy:
            self.copy_query = torch.nn.Linear(width, width)
            self.gate = torch.nn.Linear(width, 1)
        self.post_init()

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.encoder.get_input_embeddings()

    def _init_weights(self, module: torch.nn.Module) -> None:
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
        elif isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=0.02)

    def encode(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> EncodedPassages:
        """Read passages, padded on the right.

        :param input_ids: shape (passages, positions).
        :param attention_mask: 1 where there is a token, the same shape.
        """
        outputs = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        return EncodedPassages(outputs.last_hidden_state, input_ids, attention_mask.bool())

    def decode(
        self,
        passages: EncodedPassages,
        decoder_input_ids: torch.Tensor,
        earlier: Sequence[Earlier] | None = None,
    ) -> torch.Tensor:
        """Hidden states that predict each target's next token.

        :param decoder_input_ids: targets with the start token in front and without their last
            token, padded on the right; shape (passages, targets, tokens).
        :param earlier: for each layer what it made of the tokens before, which the one token of
            each target is added to.
        :returns: shape (passages, targets, tokens, width).
        """
        tokens = decoder_input_ids.shape[-1]
        places = torch.arange(tokens, device=decoder_input_ids.device)
        if earlier is not None:
            places = places + earlier[0].tokens
        hidden = self.vocabulary.read(decoder_input_ids) + self.positions(places)
        hidden = self.read_norm(hidden)
        bias = _bias(passages.mask, hidden)
        kept: Sequence[Earlier | None] = earlier or [None] * len(self.layers)
        for layer, before in zip(self.layers, kept, strict=True):
            hidden = layer(hidden, passages.states, bias, before)
        return self.norm(hidden)

    def target_log_probs(
        self, passages: EncodedPassages, decoder_input_ids: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """Log-probability of each target token in nats; 0 at padding.

        :param decoder_input_ids: as :meth:`decode` takes them.
        :param targets: the tokens predicted, -1 at padding; shape (passages, targets, tokens).
        :returns: shape (passages, targets, tokens), float32.
        """
        hidden = self.decode(passages, decoder_input_ids)
        real = targets >= 0
        written = self.vocabulary.log_probs(hidden[real], targets[real]).float()
        found = torch.zeros(targets.shape, device=written.device)
        if self.config.copy:
            attention = self._copying(hidden.flatten(1, 2), passages)
            copied = _copied(attention, passages.ids, targets.flatten(1, 2))
            copied = copied.view(targets.shape)[real]
            written = self._mixed(hidden[real], copied, written)
        return found.masked_scatter(real, written)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """As other encoder-decoders of transformers; ``logits`` are log-probabilities in nats.

        ``input_ids`` is needed beside ``encoder_outputs`` too: the copy head copies from it.
        """
        if input_ids is None or decoder_input_ids is None:
            raise ValueError("input_ids (the passage) and decoder_input_ids are needed")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        states = None if encoder_outputs is None else encoder_outputs.last_hidden_state
        if states is None:
            passages = self.encode(input_ids, attention_mask)
        else:
            passages = EncodedPassages(states, input_ids, attention_mask.bool())
        hidden = self.decode(passages, decoder_input_ids[:, None])[:, 0]
        found = self.all_log_probs(passages, hidden)
        return Seq2SeqLMOutput(logits=found, encoder_last_hidden_state=passages.states)

    def all_log_probs(self, passages: EncodedPassages, hidden: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of every token in nats, (passages, tokens, width) to (…, vocabulary).

        :param hidden: what :meth:`decode` gave for one target of each passage.
        """
        found = self.vocabulary.all_log_probs(hidden).float()
        if self.config.copy:
            attention, ids = self._copying(hidden, passages), passages.ids
            if ids.ndim == 3:  # a mean's share goes to its tokens evenly
                there = (ids >= 0).float()
                shares = there / there.sum(-1, keepdim=True).clamp_min(1)
                attention = (attention[..., None] * shares[:, None]).flatten(2)
                ids = ids.clamp_min(0).flatten(1)
            copied = torch.zeros_like(found)
            copied = copied.scatter_add(-1, ids[:, None].expand_as(attention), attention)
            found = self._mixed(hidden[..., None, :], copied, found)
        return found

    def _copying(self, hidden: torch.Tensor, passages: EncodedPassages) -> torch.Tensor:
        """Share of each position in what is copied, shape (passages, tokens, positions)."""
        asking = self.copy_query(hidden) * hidden.shape[-1] ** -0.5
        bias = _bias(passages.mask, hidden)
        return torch.baddbmm(bias, asking, passages.states.transpose(1, 2)).float().softmax(-1)

    def _mixed(
        self, hidden: torch.Tensor, copied: torch.Tensor, written: torch.Tensor
    ) -> torch.Tensor:
        """Log of the gate's mixture of copied probabilities and written log-probabilities."""
        gate = self.gate(hidden).float().squeeze(-1)
        copied = copied.clamp_min(_SMALLEST).log() + functional.logsigmoid(gate)
        return torch.logaddexp(copied, written + functional.logsigmoid(-gate))


def _copied(attention: torch.Tensor, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Probability that each target is copied, (passages, tokens)."""
    if ids.ndim == 2:
        return (attention * (targets[:, :, None] == ids[:, None])).sum(-1)
    same = (targets[:, :, None, None] == ids[:, None]).sum(-1)
    return (attention * same / (ids >= 0).sum(-1).clamp_min(1)[:, None]).sum(-1)


def _bias(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """What is added to attention scores so that padding is not seen, (passages, 1, positions)."""
    bias = torch.zeros(mask.shape, dtype=like.dtype, device=like.device)
    return bias.masked_fill(~mask, torch.finfo(like.dtype).min)[:, None]


def new_pointer(encoder: Any, **shape: Any) -> PointerModel:
    """A model whose encoder, token vectors and positions are those of a BERT.

    :param encoder: a Hugging Face encoder with BERT's embeddings.
    :param shape: what :class:`PointerConfig` takes.
    """
    settings = encoder.config.to_dict()
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = PointerModel(PointerConfig(settings, **shape))
    model.encoder.load_state_dict(encoder.state_dict(), strict=False)
    embeddings = encoder.embeddings
    model.vocabulary.begin(embeddings.word_embeddings.weight.detach())
    with torch.no_grad():
        places = embeddings.position_embeddings.weight[: model.config.max_target]
        model.positions.weight[: len(places)] = places
    return model


def padded_targets(
    targets: Sequence[Sequence[int]], start: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the decoder reads and what it predicts, each of shape (targets, longest).

    The first is padded with the start token, the second with -1.
    """
    longest = max(map(len, targets))
    read = torch.full((len(targets), longest), start)
    predicted = torch.full((len(targets), longest), -1)
    for row, target in enumerate(targets):
        ids = torch.as_tensor(target)
        predicted[row, : len(ids)] = ids
        read[row, 1 : len(ids)] = ids[:-1]
    return read, predicted


AutoConfig.register(PointerConfig.model_type, PointerConfig)
AutoModelForSeq2SeqLM.register(PointerConfig, PointerModel)
