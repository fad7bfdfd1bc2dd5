"""Which of several answers is best."""
