"""The wrapper that ships runs in a real Hayhooks."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from haystack import Document

from trlm_retrieval.passage_index import PassageIndex

pytestmark = pytest.mark.slow
pytest.importorskip("hayhooks")

WRAPPERS = Path(__file__).parents[2] / "pipelines" / "hayhooks"
TEXTS = ["The with statement calls exit.", "A generator yields values.", "Keys keep their order."]


@pytest.fixture
def url(tmp_path):
    PassageIndex.build(tmp_path / "index", [Document(id=t[:5], content=t) for t in TEXTS])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("hayhooks")), "run", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--pipelines-dir", str(WRAPPERS)]
    settings = {"TRLM_INDEX": str(tmp_path / "index"), "TRLM_MODEL": "trlm-small"}
    with subprocess.Popen(command, env={**os.environ, **settings}, cwd=tmp_path) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def test_it_answers_with_passages_in_order(url):
    for _ in range(240):
        try:
            if "retrieval" in httpx.get(f"{url}/status").json().get("pipelines", []):
                break
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.5)
    sent = {"query": "which values does a generator yield", "top_k": 2}
    answer = httpx.post(f"{url}/retrieval/run", json=sent, timeout=120)
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["result"]
    assert first["content"] == TEXTS[1] and first["score"] > second["score"]
    assert first["meta"]["trlm"]["log_likelihood"] < 0
