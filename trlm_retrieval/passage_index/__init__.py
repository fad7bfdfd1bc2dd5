"""
Documents, BM25 and FAISS in one folder.

Read in this order: `text` (what is indexed), `documents`, `bm25` and `dense` (the three parts),
`files` (how a folder is changed in one step), `writing` (from documents to a complete folder),
`index` (all of it together).
"""

from trlm_retrieval.passage_index.index import PassageIndex, shared_index

__all__ = ["PassageIndex", "shared_index"]
