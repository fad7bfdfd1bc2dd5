"""Offline scoring: many pairs, or the states of a whole corpus, shard by shard.

Read in this order: ``rows`` (input files, cut into shards), ``output`` (one part for each shard,
and what must not change between two runs), ``worker`` (one model, one shard at a time), ``run``
(all missing shards, in this process), ``ray_actors`` (the same by workers of a Ray cluster).
"""

from trlm_retrieval.offline.run import Summary, run
from trlm_retrieval.offline.worker import Job

__all__ = ["Job", "Summary", "run"]
