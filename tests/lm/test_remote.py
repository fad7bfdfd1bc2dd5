"""Scores from a server are those of the local model, and its failures are told clearly."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.utils import Secret

from trlm_retrieval import TimeReversedLM
from trlm_retrieval.components import TRLMRanker
from trlm_retrieval.errors import ModelError, RemoteError
from trlm_retrieval.index_data import demo_documents, demo_queries
from trlm_retrieval.lm import RemoteLM
from trlm_retrieval.lm.circuit_breaker import CircuitBreaker

SERVER = Path(__file__).with_name("completions_server.py")
PAIRS = [
    ("what does with call?", "The with statement calls exit."),
    ("order", "A dict keeps insertion order."),
    ("order", "A dict keeps insertion order."),
    ("ünï — 漢字?", "<|end|> is text here."),
    ("", "nothing asked"),
    ("a longer question about generators", "They yield. " * 30),
]


def start_server(folder, port=0):
    process = subprocess.Popen(
        [sys.executable, str(SERVER), str(folder), str(port)], stdout=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    assert line.startswith("port "), "the server did not start"
    return process, int(line.split()[1])


@pytest.fixture(scope="module")
def server(tiny_lm_folder):
    process, port = start_server(tiny_lm_folder)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture
def make_remote(server, tiny_lm_folder):
    made = []

    def make(kind="v1", **settings):
        path = "v1" if kind == "v1" else f"{kind}/v1"
        settings = {"order": "both", "max_context": 513, **settings}
        made.append(RemoteLM(f"{server}/{path}", "tiny", str(tiny_lm_folder), **settings))
        return made[-1]

    yield make
    for remote in made:
        remote.close()


@pytest.fixture(scope="module")
def local(tiny_lm_folder):
    return TimeReversedLM.from_pretrained(tiny_lm_folder, dtype="float32")


@pytest.mark.parametrize("protocol", ["echo", "prompt_logprobs"])
@pytest.mark.parametrize("direction", ["ba", "fo", "forward"])
def test_scores_are_those_of_the_local_model(make_remote, local, protocol, direction):
    remote = make_remote(protocol=protocol, batch_size=2)
    found = remote.score(PAIRS, direction, prior=True, max_passage_tokens=40)
    expected = local.score(PAIRS, direction, prior=True, max_passage_tokens=40)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.token_ids == theirs.token_ids and ours.cut_tokens == theirs.cut_tokens
        np.testing.assert_allclose(ours.log_probs, theirs.log_probs, atol=1e-4)
        np.testing.assert_allclose(ours.prior_log_probs, theirs.prior_log_probs, atol=1e-4)
    assert any(theirs.cut_tokens for theirs in expected)


def test_progress_counts_every_pair(make_remote):
    steps = []
    make_remote(batch_size=2).score(PAIRS, progress=steps.append)
    assert sum(steps) == len(PAIRS)


DOCUMENTS = [
    Document(id="a", content="A generator yields values.", score=3.0),
    Document(id="b", content="The with statement calls exit.", score=2.0),
    Document(id="c", content="Keys keep insertion order.", score=1.0),
]


def test_the_ranker_takes_it(make_remote, local):
    query = "how does with call exit"
    found = TRLMRanker(make_remote(), explain=True).run(query, DOCUMENTS)["documents"]
    expected = TRLMRanker(local, explain=True).run(query, DOCUMENTS)["documents"]
    assert [document.id for document in found] == [document.id for document in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=1e-3)
        assert ours.meta["trlm"]["gain"] == pytest.approx(theirs.meta["trlm"]["gain"], abs=1e-3)


async def test_in_a_running_event_loop_and_from_many_threads(make_remote):
    ranker = TRLMRanker(make_remote(batch_size=1, concurrency=2))
    query = "how does with call exit"
    inside = ranker.run(query, DOCUMENTS)["documents"]  # blocks the loop, and does not hang
    many = await asyncio.gather(*(ranker.run_async(query, DOCUMENTS) for _ in range(8)))
    for found in many:
        assert [document.id for document in found["documents"]] == [d.id for d in inside]


def test_a_pipeline_keeps_it_but_not_the_key(server, tiny_lm_folder, monkeypatch):
    monkeypatch.setenv("TEST_REMOTE_KEY", "s3cret")
    key = Secret.from_env_var("TEST_REMOTE_KEY")
    url = f"{server}/keyed/v1"
    pipeline = Pipeline()
    remote = RemoteLM(url, "tiny", str(tiny_lm_folder), api_key=key, max_context=513, timeout=7)
    pipeline.add_component("ranker", TRLMRanker(remote))
    text = pipeline.dumps()
    assert "s3cret" not in text and "TEST_REMOTE_KEY" in text
    again = Pipeline.loads(text)
    assert again.dumps() == text
    found = again.run({"ranker": {"query": "with exit", "documents": DOCUMENTS}})
    assert len(found["ranker"]["documents"]) == 3


def test_what_cannot_be_serialised(server, local):
    with pytest.raises(ValueError, match="give its name"):
        RemoteLM(server, "tiny", local.tokenizer).to_dict()


@pytest.mark.parametrize("kind", ["no-echo", "ignores-echo"])
def test_a_server_without_prompt_log_probabilities_is_told_at_once(make_remote, kind):
    with pytest.raises(RemoteError, match=r"log-probabilities for the tokens .* such as vLLM"):
        make_remote(kind).score(PAIRS[:2])


@pytest.mark.slow
@pytest.mark.skipif("TRLM_TEST_SERVER" not in os.environ, reason="needs a server of smollm2-135m")
@pytest.mark.parametrize("protocol", ["echo", "prompt_logprobs"])
def test_a_server_that_people_run(protocol):
    """TRLM_TEST_SERVER is its base URL, TRLM_TEST_MODEL the model's name there (float32)."""
    documents = [document.content for document in demo_documents()[:12]]
    pairs = [(query, text) for query in list(demo_queries().values())[:2] for text in documents]
    url, name = os.environ["TRLM_TEST_SERVER"], os.environ["TRLM_TEST_MODEL"]
    remote = RemoteLM(url, name, "smollm2-135m", protocol=protocol)
    local = TimeReversedLM.from_pretrained("smollm2-135m", dtype="float32")
    found = remote.score(pairs, prior=True, max_passage_tokens=200)
    expected = local.score(pairs, prior=True, max_passage_tokens=200)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.log_probs, theirs.log_probs, atol=1e-3)
        np.testing.assert_allclose(ours.prior_log_probs, theirs.prior_log_probs, atol=1e-3)


def test_a_wrong_key_is_told(make_remote):
    with pytest.raises(RemoteError, match=r"refuses the key .*401"):
        make_remote("keyed", api_key=Secret.from_token("wrong")).score(PAIRS[:1])


def test_a_busy_server_is_asked_again(make_remote, local):
    remote = make_remote("busy", batch_size=1, concurrency=1)
    expected = [likelihood.sum for likelihood in local.score(PAIRS)]
    assert [found.sum for found in remote.score(PAIRS)] == pytest.approx(expected, abs=1e-3)


def test_a_server_that_keeps_failing_is_left_alone_for_a_while(make_remote):
    remote = make_remote("down", attempts=3, most_failures=3, cooldown=0.5)
    with pytest.raises(RemoteError, match="3 attempts: status 503"):
        remote.score(PAIRS[:1])
    started = time.monotonic()
    with pytest.raises(RemoteError, match="3 times in a row and is left alone"):
        remote.score(PAIRS[:1])
    assert time.monotonic() - started < 0.4


def test_a_server_out_of_reach(tiny_lm_folder):
    remote = RemoteLM("http://127.0.0.1:9/v1", "tiny", str(tiny_lm_folder), attempts=1)
    with pytest.raises(RemoteError, match=r"127\.0\.0\.1:9/v1 could not be asked"):
        remote.score(PAIRS[:1])


def test_a_server_that_takes_too_long(make_remote):
    with pytest.raises(RemoteError, match="ReadTimeout"):
        make_remote("slow", timeout=0.3, attempts=1).score(PAIRS[:1])


def test_a_server_killed_in_the_middle_of_a_request(tiny_lm_folder, local):
    process, port = start_server(tiny_lm_folder)
    remote = RemoteLM(
        f"http://127.0.0.1:{port}/slow/v1", "tiny", str(tiny_lm_folder), order="both", attempts=2
    )
    with ThreadPoolExecutor(1) as other:
        asking = other.submit(remote.score, PAIRS[:1])
        assert process.stdout.readline() == "asked\n"
        process.kill()
        process.wait()
        with pytest.raises(RemoteError, match="2 attempts"):
            asking.result(timeout=30)
    assert not process.stdout.read()
    remote.close()


def test_a_server_that_comes_back_is_asked_again(tiny_lm_folder, local):
    process, port = start_server(tiny_lm_folder)
    url = f"http://127.0.0.1:{port}/v1"
    remote = RemoteLM(
        url, "tiny", str(tiny_lm_folder), order="both", max_context=513, attempts=30,
        most_failures=100,
    )  # fmt: skip
    before = [likelihood.sum for likelihood in remote.score(PAIRS)]
    process.kill()
    process.wait()
    restarted = []
    thread = threading.Thread(target=lambda: restarted.append(start_server(tiny_lm_folder, port)))
    thread.start()
    after = [likelihood.sum for likelihood in remote.score(PAIRS)]
    thread.join()
    restarted[0][0].kill()
    assert after == pytest.approx(before, abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"attempts": 0}, "attempts"),
        ({"timeout": -1}, "timeout"),
        ({"protocol": "chat"}, "protocol"),
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"order": "sideways"}, "order"),
    ],
)
def test_bad_settings_are_named(tiny_lm_folder, settings, named):
    given = {"base_url": "http://x", "model": "m", "tokenizer": str(tiny_lm_folder), **settings}
    with pytest.raises(ValueError, match=named):
        RemoteLM(**given)


def test_a_tokenizer_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="tokenizer"):
        RemoteLM("http://x", "m", str(tmp_path / "none"))


def test_states_on_disk_are_for_local_models(make_remote, tmp_path):
    ranker = TRLMRanker(make_remote(), states_folder=str(tmp_path))
    with pytest.raises(ValueError, match="local models"):
        ranker.warm_up()


def test_the_breaker_lets_one_probe_through_after_the_cooldown():
    now = [0.0]
    breaker = CircuitBreaker(failures=2, cooldown=10, clock=lambda: now[0])
    breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()
    now[0] = 10.0
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.failed()
    now[0] = 19.0
    assert not breaker.allows()
    now[0] = 20.0
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.allows() and breaker.allows()
