"""Ways to write a passage and a query down for a forward model, compared by choose_default.

All score the query after the passage (TRLM-Fo). They differ in what stands between the two, and in
whether the model's own chat format is used.
"""

from trlm_retrieval.lm import DIRECTIONS, Template


def _fo(name: str, context: str, target: str = " {query}") -> Template:
    return Template(name, "forward", context, target)


PROMPTS: tuple[Template, ...] = (
    DIRECTIONS["fo"],
    _fo("question", "Passage: {passage}\nQuestion:"),
    _fo("query", "Passage: {passage}\nQuery:"),
    _fo("title", "Passage: {passage}\nTitle:"),
    _fo("search", "Passage: {passage}\nWrite a search query that this passage answers.\nQuery:"),
    _fo("relevant", "Passage: {passage}\nThis passage is relevant to the query:"),
    _fo("answers", "Passage: {passage}\nThis passage answers the question:"),
    _fo("about", "Passage: {passage}\nWhat is this passage about? It is about"),
    _fo("asked", "Passage: {passage}\nA reader who looked for this passage asked:"),
    _fo("bare", "{passage}\n\n", "{query}"),
    _fo("paper", "{passage}\nhas an answer to"),  # table 7 of the TRLM paper
    _fo(
        "chat",
        "<|im_start|>user\nWrite a search query that this passage answers.\n\nPassage: {passage}"
        "<|im_end|>\n<|im_start|>assistant\n",
        "{query}",
    ),
)
