"""Scoring with time-reversed language models. Knows neither Haystack nor any data set.

Read in this order: ``template`` and ``encoding`` (what the model reads), ``network`` and
``likelihood`` (how it is scored), ``states`` (what is kept between queries), ``packing`` (how it is
scored fast), ``scorer`` and ``model``; ``remote`` asks a server instead. ``state_folder`` and
``state_writing`` keep states on disk.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from trlm_retrieval.lm.likelihood import Likelihood
    from trlm_retrieval.lm.model import TimeReversedLM
    from trlm_retrieval.lm.remote import RemoteLM
    from trlm_retrieval.lm.scorer import PairScorer
    from trlm_retrieval.lm.states import PassageStates
    from trlm_retrieval.lm.template import DIRECTIONS, Template

__all__ = [
    "DIRECTIONS",
    "Likelihood",
    "PairScorer",
    "PassageStates",
    "RemoteLM",
    "Template",
    "TimeReversedLM",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "likelihood": ["Likelihood"],
        "model": ["TimeReversedLM"],
        "remote": ["RemoteLM"],
        "scorer": ["PairScorer"],
        "states": ["PassageStates"],
        "template": ["DIRECTIONS", "Template"],
    },
)
