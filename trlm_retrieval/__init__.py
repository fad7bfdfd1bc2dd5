"""Rank passages by P(query | passage), read off a time-reversed language model."""
