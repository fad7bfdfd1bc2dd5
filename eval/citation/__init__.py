"""Which source supports which claim."""
