"""Bodies of error answers, each in the form that the clients of its route read."""

from collections.abc import Sequence
from typing import Any

_COHERE_AND_JINA = {"/v1/rerank", "/v2/rerank"}
_TEXT_EMBEDDINGS_INFERENCE = {"/rerank"}
_OPENAI_AND_VLLM = {"/score", "/v1/score", "/v1/models"}


def refusal(path: str, status: int, detail: str | Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The body of an answer that refuses a request.

    :param path: the path of the request.
    :param detail: what is wrong, or a list of mistakes with their place (``loc``) and a text
        (``msg``). Our own routes send the list; other servers' clients read one text.
    """
    text = detail if isinstance(detail, str) else "; ".join(map(_told, detail))
    if path in _COHERE_AND_JINA:  # Cohere's clients read message, Jina's detail
        return {"message": text, "detail": text}
    if path in _TEXT_EMBEDDINGS_INFERENCE:
        kind = "Overloaded" if status == 503 else "Backend" if status >= 500 else "Validation"
        return {"error": text, "error_type": kind}
    if path in _OPENAI_AND_VLLM:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        return {"error": {"message": text, "type": kind, "param": None, "code": status}}
    return {"detail": detail}


def _told(mistake: dict[str, Any]) -> str:
    return f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}"
