"""Markdown as plain text by sections: headings, tables, front matter. Needs the extra `convert`."""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import yaml  # type: ignore[import-untyped]
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, reference
from markdown_it.token import Token
from mdit_plain.renderer import RendererPlain  # type: ignore[import-untyped]

from trlm_retrieval.files import json_text
from trlm_retrieval.passage_index.converted import Converted, sections

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)"
    r"|\A\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*(?:\n|\Z)",
    re.DOTALL | re.MULTILINE,
)
# What a heading holds that is no part of its text: a footnote's mark, an anchor.
_NOT_TITLE = re.compile(r"\[\^[^\]\s]*\]|\s*\{[#.:][^{}]*\}\s*\Z")
_SHOWN = ("text", "code_inline", "image", "softbreak", "hardbreak")
_TABLE = "table_as_lines"


class _Renderer(RendererPlain):
    def render_table_as_lines(self, tokens: Sequence[Token], i: int, options: Any, env: Any) -> str:
        return f"\n{tokens[i].content}\n"


def convert_markdown(text: str, meta: dict[str, Any] | None = None) -> Converted:
    """Markdown, parsed once; its title is that of its meta, else its first heading of level 1.

    :param meta: what is known of it; None for what its front matter says.
    """
    body, meta = _front_matter(text) if meta is None else (text, meta)
    parser = MarkdownIt(renderer_cls=_Renderer).enable("table")
    parser.block.ruler.at("reference", _link_definition)
    return _converted(parser, body, meta)


def convert_headings_and_tables(text: str, meta: dict[str, Any]) -> Converted:
    """Text in which nothing but headings (``#``) and tables (``|``) is Markdown."""
    parser = MarkdownIt("zero", renderer_cls=_Renderer).enable(["heading", "table"])
    return _converted(parser, text, meta)


def _link_definition(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    first = state.bMarks[start] + state.tShift[start]
    footnote = state.src.startswith("[^", first)  # which is text, and no link's address
    return not footnote and reference(state, start, end, silent)


def _converted(parser: MarkdownIt, body: str, meta: dict[str, Any]) -> Converted:
    tokens = list(_without_tables(parser.parse(body)))
    starts = [
        i for i, token in enumerate(tokens) if token.type == "heading_open" and not token.level
    ]  # of the text itself, not of a quotation in it

    def rendered(part: Sequence[Token]) -> str:
        return str(parser.renderer.render(part, parser.options, {}))

    parts = [(0, "", "", rendered(tokens[: starts[0]] if starts else tokens))]
    for start, end in pairwise([*starts, len(tokens)]):
        level, heading = int(tokens[start].tag[1:]), _heading(tokens[start + 1])
        if level == 1 and heading and "title" not in meta:
            meta["title"] = heading
        shown = rendered(tokens[start : start + 3])
        parts.append((level, heading, shown, rendered(tokens[start + 3 : end])))
    found = Converted(sections(parts), meta)
    if not found.sections:
        found.sections = sections([(0, "", "", str(meta.get("title", "")))])
    return found


def _heading(inline: Token) -> str:
    return " ".join(_NOT_TITLE.sub("", _line(inline)).split())


def _line(inline: Token) -> str:
    """What is shown of a heading or of a cell of a table."""
    shown = (
        child.content if child.type in ("text", "code_inline", "image") else " "
        for child in inline.children or []
        if child.type in _SHOWN or child.content.lower().startswith("<br")
    )
    return " ".join("".join(shown).split())


def _without_tables(tokens: Sequence[Token]) -> Iterator[Token]:
    """The tokens, with one in the place of each table that holds its rows as lines."""
    rows: list[list[str]] = []
    inside = False
    for before, token in pairwise([Token("", "", 0), *tokens]):
        if token.type == "table_open":
            rows, inside = [], True
        elif token.type == "table_close":
            inside = False
            yield Token(_TABLE, "", 0, content=_lines(rows))
        elif not inside:
            yield token
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and before.type in ("th_open", "td_open"):
            rows[-1].append(_line(token))


def _lines(rows: Sequence[Sequence[str]]) -> str:
    """A table that can be read line by line: each value stands behind its column's header."""
    header, *others = rows
    if not others or not any(header):
        return "\n".join(" | ".join(filter(None, row)) for row in rows if any(row))
    names = [name.rstrip(" :") for name in header]
    return "\n".join(
        "; ".join(
            f"{name}: {value}" if name else value
            for name, value in zip(names, row, strict=True)
            if value
        )
        for row in others
    )


def _front_matter(text: str) -> tuple[str, dict[str, Any]]:
    """What is below the front matter (YAML or TOML), and its fields; text without any is left as
    it is."""
    found = _FRONT_MATTER.match(text)
    if not found:
        return text, {}
    try:
        fields = tomllib.loads(found[2]) if found[1] is None else yaml.safe_load(found[1])
    except (yaml.YAMLError, ValueError):
        return text, {}
    if fields is None:
        return text[found.end() :], {}
    if not isinstance(fields, dict):
        return text, {}
    meta = {str(name): value for name, value in json.loads(json_text(_named(fields))).items()}
    title = meta.pop("title", None)
    if isinstance(title, str | int | float) and str(title).strip():
        meta["title"] = str(title)
    return text[found.end() :], meta


def _named(value: Any) -> Any:
    """YAML takes anything as a key; JSON takes text."""
    if isinstance(value, dict):
        return {str(name): _named(item) for name, item in value.items()}
    return [_named(item) for item in value] if isinstance(value, list) else value
