"""The page at /docs: all routes and types of the server, made from its OpenAPI description.

FastAPI's own page loads its scripts from a public CDN; this one loads nothing.
"""

from typing import Any

from trlm_retrieval.pages.rendering import render


def reference_page(description: dict[str, Any]) -> str:
    """The whole HTML page.

    :param description: what ``/openapi.json`` answers.
    """
    return render(
        "reference.html",
        kind=_type,
        content=_content,
        info=description["info"],
        operations=[
            (path, method.upper(), operation)
            for path, methods in description["paths"].items()
            for method, operation in methods.items()
        ],
        types=description["components"]["schemas"],
    )


def _content(message: dict[str, Any]) -> str:
    """The type of a request's or an answer's body."""
    return " or ".join(
        _type(body["schema"]) if "schema" in body else media
        for media, body in message.get("content", {}).items()
    )


def _type(schema: dict[str, Any]) -> str:
    """A type in words, those of the server by their names."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "const" in schema:
        return repr(schema["const"])
    if "prefixItems" in schema:
        return f"({', '.join(map(_type, schema['prefixItems']))})"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return str(schema.get("type", "anything"))
