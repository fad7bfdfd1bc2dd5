"""How fast it is, beside what else, and under load."""
