"""A byte-level BPE tokenizer, and the special tokens that training gives a meaning."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from trlm_retrieval.errors import ModelError
from trlm_retrieval.text.normalise import well_formed
from trlm_retrieval.training.corpus import Section

START_TOKENS = {"forward": "<|forward|>", "reverse": "<|reverse|>"}  # opens a sequence
END_TOKEN = "<|end|>"  # between two texts, and after a query


def train_tokenizer(
    sections: Iterable[Section], vocabulary: int, most_characters: int = 50_000_000
) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE; any text comes back from its tokens unchanged.

    :param vocabulary: number of tokens, the 256 bytes and three special tokens included.
    :param most_characters: learn from about the first so many characters.
    :raises ValueError: if the vocabulary is too small, or too large for two bytes a token.
    """
    if not 300 <= vocabulary <= 1 << 16:
        raise ValueError(f"a vocabulary has 300 to 65,536 tokens, not {vocabulary}")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[*START_TOKENS.values(), END_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_texts(sections, most_characters), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END_TOKEN)


def _texts(sections: Iterable[Section], most_characters: int) -> Iterator[str]:
    left = most_characters
    for section in sections:
        if left <= 0:
            return
        text = well_formed(section.running_text)
        left -= len(text)
        yield text


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer in a folder, or of a hub id; a hub is never asked about a path.

    :raises ModelError: if there is none.
    """
    try:
        if isinstance(folder, Path) and not folder.is_dir():
            raise FileNotFoundError(folder)
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder} holds no tokenizer; `trlm train tokenizer` writes one"
        ) from error


def start_tokens(tokenizer: Any) -> dict[str, str]:
    """The token that opens a sequence in each order; one and the same for foreign tokenizers.

    :raises ModelError: if the tokenizer has no token to start with.
    """
    if set(START_TOKENS.values()) <= set(tokenizer.get_vocab()):
        return dict(START_TOKENS)
    token = tokenizer.bos_token or tokenizer.eos_token
    if token is None:
        raise ModelError("the tokenizer has neither a BOS nor an EOS token to start with")
    return {"forward": token, "reverse": token}


def end_id(tokenizer: Any) -> int:
    """The token that stands between two texts.

    :raises ModelError: if the tokenizer has neither an EOS nor a BOS token.
    """
    found = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.bos_token_id
    if found is None:
        raise ModelError("the tokenizer has neither an EOS nor a BOS token to end a text with")
    return int(found)
