"""``trlm serve`` as a process: how it starts, logs, and ends."""

import json
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.serving.app import create_app
from trlm_retrieval.serving.settings import ServingSettings

QUERY = "how does the with statement call exit"


def lines(served):
    return [json.loads(line) for line in served.log.read_text().splitlines()]


def test_it_serves_logs_json_and_ends_gracefully(serve):
    served = serve("--api-key", "s3cret")
    headers = {"authorization": "Bearer s3cret"}
    many = {"query": QUERY, "documents": [f"number {i} of the texts" for i in range(900)]}
    answers = []

    def ask():
        url = f"{served.url}/v1/rerank"
        answers.append(httpx.post(url, json=many, headers=headers, timeout=30))

    asking = threading.Thread(target=ask)
    asking.start()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        text = httpx.get(f"{served.url}/metrics", headers=headers).text
        if "trlm_work_in_progress 1.0" in text:
            break
    else:
        raise AssertionError("the request was never worked on")
    served.stop()
    asking.join()
    assert answers[0].status_code == 200 and len(answers[0].json()["results"]) == 900
    assert any(served.url in line["message"] for line in lines(served))  # where it listens
    requests = [line for line in lines(served) if line["message"] == "request"]
    [rerank] = [line for line in requests if line["path"] == "/v1/rerank"]
    assert rerank["status"] == 200 and rerank["seconds"] > 0 and rerank["level"] == "info"
    assert "number 1 of" not in served.log.read_text()


@pytest.fixture
def impatient(_tiny, served_index, listen):
    with listen(create_app(ServingSettings(served_index, timeout=1))) as url:
        yield url


def test_a_body_that_never_ends_and_headers_of_garbage_do_not_hang_it(impatient):
    host, port = impatient.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as slow:
        slow.sendall(b"POST /v1/rerank HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")
    for garbage in (b"content-length: -5", b"content-length: x", b"\xff\xfe: \x00"):
        with socket.create_connection((host, int(port)), timeout=20) as odd:
            odd.sendall(b"POST /v1/rerank HTTP/1.1\r\nhost: x\r\n" + garbage + b"\r\n\r\n")
            assert odd.recv(4096).startswith(b"HTTP/1.1 4")
    assert httpx.get(f"{impatient}/healthz").status_code == 200


def test_trlm_search_asks_it(base_url, capsys):
    asked = ["search", QUERY, "--server", base_url, "--json"]
    assert run_cli(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["candidates"] == len(found["results"]) == 3
    assert run_cli([*asked, "--filter", "title=yield"]) == 0
    [only] = json.loads(capsys.readouterr().out)["results"]
    assert only["title"] == "yield"


def test_a_missing_index_is_told_on_one_line(tmp_path, capsys):
    assert run_cli(["serve", "--index", str(tmp_path / "nowhere")]) == 2
    printed = capsys.readouterr().err
    assert "nowhere" in printed and len(printed.splitlines()) == 1


def test_without_the_extra_the_remedy_is_told(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert run_cli(["serve"]) == 2
    assert "pip install 'trlm-retrieval[serve]'" in capsys.readouterr().err


def test_an_open_address_without_a_key_is_warned_of(
    monkeypatch, served_index, tiny_lm_folder, caplog
):
    monkeypatch.setattr("uvicorn.Server.run", lambda *given, **named: None)
    monkeypatch.setattr("trlm_retrieval.serving.logs.log_as_json", lambda: None)
    options = ["--index", str(served_index), "--model", str(tiny_lm_folder), "--port", "0"]
    assert run_cli(["serve", *options]) == 0
    assert "no key" not in caplog.text
    assert run_cli(["serve", *options, "--host", "0.0.0.0"]) == 0
    assert "0.0.0.0 is open to others and there is no key" in caplog.text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_person_is_told_where_it_serves_what_and_how_to_stop_it(
    monkeypatch, served_index, tiny_lm_folder, capsys, terminal
):
    bound = []
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: bound.extend(sockets))
    monkeypatch.setattr("trlm_retrieval.serving.logs.log_as_json", lambda: None)
    monkeypatch.setattr("trlm_retrieval.cli.serve.watched", lambda: terminal)
    options = ["--index", str(served_index), "--model", str(tiny_lm_folder), "--port", "0"]
    assert run_cli(["serve", *options]) == 0
    port = bound[0].getsockname()[1]
    bound[0].close()
    printed = capsys.readouterr().err.splitlines()
    told = [line for line in printed if line.startswith("Serving")]
    assert len(told) == terminal
    url = f"http://127.0.0.1:{port}"
    for part in (f"{url}:", f"{url}/docs", str(served_index), str(tiny_lm_folder), "Ctrl-C"):
        assert all(part in line for line in told)


@pytest.mark.slow
def test_a_server_that_was_killed_serves_the_same_again(serve):
    many = {"query": QUERY, "documents": [f"number {i} of the texts" for i in range(900)]}
    answers = []
    for number in range(3):
        served = serve()
        asked = httpx.post(f"{served.url}/retrieval/run", json={"query": QUERY})
        answers.append(asked.json()["result"])
        with ThreadPoolExecutor(1) as other:
            asking = other.submit(httpx.post, f"{served.url}/v1/rerank", json=many, timeout=30)
            time.sleep(0.1 * number)
            served.process.kill()
            served.process.wait()
            with pytest.raises(httpx.TransportError):
                asking.result()
    assert answers[0]["passages"] and answers == [answers[0]] * 3
