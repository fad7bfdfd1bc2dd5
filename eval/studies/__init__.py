"""How defaults were chosen; run once in a while."""
