"""Training of time-reversed language models. Needs the extra ``train`` for adapters and plots.

Read in this order: ``corpus`` (what is learned from), ``tokenizer``, ``shards`` (tokens on disk),
``presets`` (sizes), ``objective`` (what is minimised), ``pretraining`` and ``finetuning`` (what the
model reads), ``schedule``, ``loop`` (the one training loop), ``run`` (what it leaves on disk),
``check`` (is it any good?), ``export`` (make it small).
"""
