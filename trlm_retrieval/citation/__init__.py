"""Which source supports which sentence of an answer. Knows no Haystack.

Read in this order: ``support`` (how well a text supports a claim), ``search`` (which of its
sentences do), ``markers`` (the numbers in square brackets), ``windows`` (sources that are too long
to be read at once), ``checks`` (numbers and negations that differ), ``entailment`` (what an NLI
model says), ``attribution`` (all of it for whole answers).
"""
