"""What users would reach for instead, run for real on the same pairs; the extra ``bench`` has them.

Each peer gets the loaded model and its texts and scores them in its own way. A cross-encoder and a
bi-encoder stand for what most people use; the packaged encoder-decoder runs beside them. Peers that
this machine lacks are named with the reason.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm import DIRECTIONS, PassageStates, TimeReversedLM
from trlm_retrieval.lm.states import StateFormat
from trlm_retrieval.models.cross_encoder import CrossEncoder
from trlm_retrieval.models.embedder import SentenceEmbedder
from trlm_retrieval.models.source import DEFAULT_CROSS_ENCODER
from trlm_retrieval.models.store import resolve

from .benchmark import BASE_BATCH, MAX_PASSAGE_TOKENS, Pairs

_STATE_BYTES = 2 * 1024**3

Peer = Callable[[Pairs], list[float]]


def ready_peers(
    lm: TimeReversedLM, pairs: Pairs, *, quick: bool = False
) -> tuple[dict[str, Peer], dict[str, str]]:
    """Peers that can run on these pairs, and those that cannot with the reason.

    :param quick: only those that need no package beside ours and take seconds.
    """
    makers: dict[str, Callable[[TimeReversedLM, Pairs], Peer]] = {
        "trlm-small": _packaged,
        "trlm-small, states": _packaged_states,
        "trlm-small, int8 states": partial(_packaged_states, form=StateFormat("int8")),
        f"cross-encoder {DEFAULT_CROSS_ENCODER}": _cross_encoder,
        "bi-encoder minilm": _bi_encoder,
    }
    missing: dict[str, str] = {}
    if not quick:
        makers |= {
            "minicons": _minicons,
            "lm_eval": _lm_eval,
            "llama.cpp, 4 bits, reading only": _llama_cpp,
        }
        missing["rerankers"] = "its query likelihood (UPR) takes T5 models only, all from a hub"
    ready: dict[str, Peer] = {}
    for name, make in makers.items():
        try:
            ready[name] = make(lm, pairs)
        except ImportError as error:
            missing[name] = f"not installed ({error.name})"
        except ModelError as error:
            missing[name] = str(error)
    return ready, missing


def _packaged(lm: TimeReversedLM, pairs: Pairs) -> Peer:
    packaged = TimeReversedLM.from_pretrained("trlm-small", states_megabytes=0)
    return partial(_sums, packaged)


def _packaged_states(
    lm: TimeReversedLM,
    pairs: Pairs,
    form: StateFormat = StateFormat(),  # noqa: B008 - immutable
) -> Peer:
    packaged = TimeReversedLM.from_pretrained("trlm-small")
    packaged.states = PassageStates(_STATE_BYTES, form)
    _sums(packaged, pairs)  # reads the passages
    return partial(_sums, packaged)


def _sums(lm: TimeReversedLM, pairs: Pairs) -> list[float]:
    return [found.sum for found in lm.score(pairs, max_passage_tokens=MAX_PASSAGE_TOKENS)]


def _cross_encoder(lm: TimeReversedLM, pairs: Pairs) -> Peer:
    model = CrossEncoder.from_pretrained(
        DEFAULT_CROSS_ENCODER, max_tokens=MAX_PASSAGE_TOKENS, device=lm.network.device
    )
    return lambda pairs: model.scores(pairs).tolist()


def _texts(lm: TimeReversedLM, pairs: Pairs) -> list[tuple[str, str]]:
    """Context and target as text, passages cut as for all others."""
    template = DIRECTIONS["fo"]
    encoded = lm.encode(pairs, template, MAX_PASSAGE_TOKENS)
    contexts = [lm.tokenizer.decode(pair.context[1:]) for pair in encoded]
    return [(context, " " + query) for context, (query, _) in zip(contexts, pairs, strict=True)]


def _minicons(lm: TimeReversedLM, pairs: Pairs) -> Peer:
    from minicons.scorer import IncrementalLMScorer

    if lm.tokenizer.pad_token is None:
        lm.tokenizer.pad_token = lm.tokenizer.eos_token
    scorer = IncrementalLMScorer(lm.model, str(lm.network.device), tokenizer=lm.tokenizer)
    texts = _texts(lm, pairs)

    def score(_: Pairs) -> list[float]:
        found: list[float] = []
        for start in range(0, len(texts), BASE_BATCH):
            batch = texts[start : start + BASE_BATCH]
            found += scorer.conditional_score(
                [context for context, _ in batch],
                [target.strip() for _, target in batch],
                reduction=lambda values: values.sum(0).item(),
                bos_token=True,
            )
        return found

    return score


def _lm_eval(lm: TimeReversedLM, pairs: Pairs) -> Peer:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(
        pretrained=lm.model,
        tokenizer=lm.tokenizer,
        batch_size=BASE_BATCH,
        device=str(lm.network.device),
        add_bos_token=True,
    )
    requests = [
        Instance("loglikelihood", {}, text, index) for index, text in enumerate(_texts(lm, pairs))
    ]
    return lambda _: [value for value, _ in harness.loglikelihood(requests, disable_tqdm=True)]


def _llama_cpp(lm: TimeReversedLM, pairs: Pairs) -> Peer:
    """llama.cpp's server over the GGUF file that the model was made from.

    It tells probabilities of tokens that it generates and none of the tokens that it reads, so
    what is timed is reading each pair and generating one token: less work than scoring.
    """
    from xllamacpp import CommonParams, Server

    files = sorted(Path(resolve(str(lm.name))).glob("*.gguf"))
    if not files:
        raise ModelError(f"there is no GGUF file of {lm.name}")
    settings = CommonParams()
    settings.model.path = str(files[0])
    settings.n_ctx = lm.max_context
    settings.n_parallel = 1
    settings.verbosity = 0
    settings.cpuparams.n_threads = torch.get_num_threads()
    server = Server(settings)
    encoded = lm.encode(pairs, DIRECTIONS["fo"], MAX_PASSAGE_TOKENS)

    def read(tokens: list[int]) -> float:
        request = {"prompt": tokens, "max_tokens": 1, "logprobs": 1, "cache_prompt": False}
        answer = server.handle_completions(request)
        return float(answer["choices"][0]["logprobs"]["content"][0]["logprob"])

    return lambda _: [read([*pair.context, *pair.target]) for pair in encoded]


def _bi_encoder(lm: TimeReversedLM, pairs: Pairs) -> Peer:
    embedder = SentenceEmbedder()

    def score(pairs: Pairs) -> list[float]:
        vectors = embedder.embed([passage for _, passage in pairs])
        query = embedder.embed([pairs[0][0]])[0]
        return [float(value) for value in vectors @ query]

    return score
