"""Text before any model or index: ``normalise``, ``words``, ``sentences``, ``tokens``."""
