"""`python -m trlm_retrieval.cli`, for launchers that start modules, as torchrun does."""

from trlm_retrieval.cli import main

main()
