"""``trlm serve``: the pipelines over HTTP."""

import ipaddress
import logging
from pathlib import Path
from typing import Annotated

import typer

from trlm_retrieval.cli._checks import check_extras, check_index
from trlm_retrieval.cli._terminal import (
    DEFAULT_CANDIDATES,
    DEFAULT_INDEX,
    CandidatesOption,
    IndexOption,
    ModelOption,
    err,
    working,
)
from trlm_retrieval.progress import watched

_CONNECTIONS = 512  # more at the same time are answered 503 before they are read


def serve(
    index: IndexOption = DEFAULT_INDEX,
    model: ModelOption = None,
    candidates: CandidatesOption = DEFAULT_CANDIDATES,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at.")] = 8000,
    states_megabytes: Annotated[
        int,
        typer.Option(
            min=0, help="Memory for passage states, which make passages seen before cheaper."
        ),
    ] = 2048,
    workers: Annotated[
        int, typer.Option(min=1, help="Requests that the models work on at the same time.")
    ] = 1,
    queue: Annotated[
        int, typer.Option(min=0, help="Requests that may wait; one more is answered 503.")
    ] = 32,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="The most seconds that a request waits, and then takes.")
    ] = 60.0,
    max_documents: Annotated[
        int, typer.Option(min=1, help="The most documents of a rerank request.")
    ] = 1000,
    max_megabytes: Annotated[
        int, typer.Option(min=1, help="The largest request body, in MiB.")
    ] = 8,
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key",
            envvar="TRLM_API_KEY",
            help="Key that requests must carry; set the variable, as other users of a machine "
            "see the options of a command.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve search, cited answers and reranking over HTTP, with a page for people.

    Needs the extra `serve`. The page is at the address that is printed, and a list of all routes
    at `/docs`. Clients of the rerankers of Cohere, Jina, text-embeddings-inference and vLLM work
    with this server as their base URL. Logs go to standard error, one JSON object a line.

    Examples:

    * `trlm serve`

    * `TRLM_API_KEY=secret trlm serve --host 0.0.0.0 --port 8080 --index my-index`
    """
    check_extras("fastapi", "prometheus_client", "uvicorn")
    check_index(index, model)
    with working("Loading"):
        import uvicorn

        from trlm_retrieval.serving.app import create_app
        from trlm_retrieval.serving.logs import log_as_json
        from trlm_retrieval.serving.settings import ServingSettings

        log_as_json()
        app = create_app(
            ServingSettings(
                index=Path(index),
                model=model,
                candidates=candidates,
                states_megabytes=states_megabytes,
                workers=workers,
                queue=queue,
                timeout=timeout,
                max_documents=max_documents,
                max_body=max_megabytes * 1024**2,
                api_key=api_key,
            )
        )
    if api_key is None and not _is_loopback(host):
        logging.getLogger("trlm").warning(
            "%s is open to others and there is no key: set TRLM_API_KEY", host
        )
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=int(timeout) + 1,
    )
    bound = config.bind_socket()
    if watched():
        address = f"[{host}]" if ":" in host else host
        url = f"http://{address}:{bound.getsockname()[1]}"
        ranks = f"{app.state.engine.model} ranks the passages of {index}"
        err.print(
            f"Serving at {url}: {ranks}. Routes: {url}/docs. Ctrl-C stops it.",
            markup=False,
            soft_wrap=True,
        )
    uvicorn.Server(config).run(sockets=[bound])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
