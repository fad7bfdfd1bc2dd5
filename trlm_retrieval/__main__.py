"""`python -m trlm_retrieval`: the command ``trlm``, for launchers that start modules."""

from trlm_retrieval.cli import main

main()
