"""
Documents, BM25 and FAISS in one folder.

Read in this order: `reading` (files to documents), `documents` (what of them is indexed),
`bm25` and `dense`, `files` (how a folder is changed in one step), `writing` (from documents to a
complete folder), `index` (all of it together).
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from trlm_retrieval.passage_index.index import PassageIndex, shared_index

__all__ = ["PassageIndex", "shared_index"]

__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"index": __all__})
