"""Pages from the templates beside this file: one look, all text from outside escaped."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def _nats(value: float, digits: int = 2, sign: str = "+") -> str:
    return f"{value:{sign}.{digits}f}".replace("-", "\N{MINUS SIGN}")


_ENVIRONMENT = Environment(
    loader=PackageLoader("trlm_retrieval.pages", ""),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["nats"] = _nats


def render(template: str, **values: Any) -> str:
    """A whole HTML page, which needs no network and no other file.

    :param template: name of a file beside this one.
    :param values: what the template shows.
    """
    return _ENVIRONMENT.get_template(template).render(values)
