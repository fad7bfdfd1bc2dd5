"""Scoring with time-reversed language models. Knows neither Haystack nor any data set.

Read in this order: ``direction`` (what the model reads), ``likelihood`` (how it is scored),
``states`` (what is kept between queries), ``packed`` (how it is scored fast), ``pretrained``
(where models come from), ``scorer`` and ``model``; ``remote`` asks a server instead.
"""

from trlm_retrieval.lm.direction import DIRECTIONS, Template
from trlm_retrieval.lm.likelihood import Likelihood
from trlm_retrieval.lm.model import TimeReversedLM
from trlm_retrieval.lm.remote import RemoteLM
from trlm_retrieval.lm.scorer import PairScorer
from trlm_retrieval.lm.states import PassageStates

__all__ = [
    "DIRECTIONS",
    "Likelihood",
    "PairScorer",
    "PassageStates",
    "RemoteLM",
    "Template",
    "TimeReversedLM",
]
