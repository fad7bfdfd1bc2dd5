"""What prompts do to a language model, and what its outputs say about their prompt.

``inference`` finds the prompt that led to some outputs, ``tokens`` the tokens that a model hardly
learned, ``preceding`` the token before a text by trying all of them, and ``search`` a prompt that
makes a text likely. None knows Haystack.
"""
