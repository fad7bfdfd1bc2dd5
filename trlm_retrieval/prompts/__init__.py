"""What prompts do to a language model, and what its outputs say about their prompt.

``inference`` finds the prompt that led to some outputs, ``undertrained`` the under-trained tokens
of a model, ``preceding_tokens`` the token before a text by trying all of them, and ``search`` a
prompt that makes a text likely. None knows Haystack.
"""
