"""The reference that every faster path is held against."""

import numpy as np
import torch

from trlm_retrieval.lm import DIRECTIONS


def naive_log_probs(lm, query, passage, direction):
    """Target log-probabilities in natural order: one full forward pass, no batch, no cache."""
    template = DIRECTIONS[direction]
    tokenizer = lm.tokenizer
    texts = {"query": query, "passage": passage}

    def ids_of(text):
        before, _, rest = text.partition("{")
        name, _, after = rest.partition("}")
        lead = before[len(before.rstrip()) :]
        parts = [before.rstrip(), lead + texts[name], after]
        return [i for part in parts for i in tokenizer.encode(part, add_special_tokens=False)]

    context, target = ids_of(template.context), ids_of(template.target)
    if template.order == "reverse":
        context, target = context[::-1], target[::-1]
    ids = [tokenizer.bos_token_id, *context, *target]
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    values = [
        logits[position - 1, ids[position]].item()
        for position in range(len(ids) - len(target), len(ids))
    ]
    return np.array(values[::-1] if template.order == "reverse" else values)
