"""Rankings of passages."""
