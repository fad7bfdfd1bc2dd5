"""Minutes of mixed load: nothing fails, and memory does not grow."""

import pytest

from trlm_retrieval.eval.bench import load
from trlm_retrieval.index_data import demo_documents
from trlm_retrieval.passage_index import PassageIndex


@pytest.mark.slow
async def test_memory_is_flat_once_it_is_warm(serve, tmp_path, word_embedder):
    PassageIndex.build(tmp_path / "index", demo_documents(), embedder=word_embedder)
    served = serve("--index", str(tmp_path / "index"), "--states-megabytes", "5")
    warm = await load.run(served.url, clients=4, seconds=100, kinds=load.KINDS)
    found = await load.run(served.url, clients=4, seconds=100, kinds=load.KINDS)
    print(warm.report(100), found.report(100), sep="\n")
    assert set(warm.statuses) == set(found.statuses) == {"200"}
    assert max(found.megabytes) < 1.05 * found.megabytes[0]
