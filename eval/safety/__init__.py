"""Which answers and questions are refused."""
