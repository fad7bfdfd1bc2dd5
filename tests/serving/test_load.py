"""The load script counts what the server answered."""

from trlm_retrieval.eval.bench import load
from trlm_retrieval.serving.app import create_app
from trlm_retrieval.serving.settings import ServingSettings


def test_more_clients_than_places_get_200_or_503(served_index, listen, capsys):
    app = create_app(ServingSettings(served_index, queue=1))
    with listen(app) as url:
        code = load.main([url, "--clients", "8", "--seconds", "1.5", "--kinds", "rerank"])
    printed = capsys.readouterr().out
    assert code == 0
    assert "status 200: " in printed and "status 503: " in printed and "p99: " in printed
    [memory] = [line for line in printed.splitlines() if line.startswith("memory")]
    assert all(float(value) > 10 for value in memory.split()[2:])


def test_errors_are_counted_and_fail(capsys):
    assert load.main(["http://127.0.0.1:9", "--clients", "1", "--seconds", "0.2"]) == 1
    assert "status error: " in capsys.readouterr().out


async def test_all_kinds_are_answered(base_url):
    found = await load.run(base_url, clients=3, seconds=1, kinds=load.KINDS)
    assert set(found.statuses) == {"200"} and len(found.seconds) == found.statuses["200"]
