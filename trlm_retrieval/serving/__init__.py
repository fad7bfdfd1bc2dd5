"""The pipelines over HTTP: what ``trlm serve`` runs. Needs the extra ``serve``.

Read in this order: ``settings``, ``schemas`` (requests and responses), ``gate`` (how much work is
let in), ``engine`` (the models and what they do), ``routes``, ``other_servers`` (routes
that clients of other servers know), ``refusals`` (error bodies), ``reference`` (the page of all
routes), ``middleware``, ``app``.
"""
