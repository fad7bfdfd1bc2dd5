"""Source code cut along its functions and classes. Needs the extra `convert`."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tree_sitter import Node

LANGUAGES = {
    ".py": "python",
    ".pyi": "python",
    ".js": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".jsx": "javascript",
    ".ts": "typescript",
    ".tsx": "tsx",
    ".java": "java",
    ".go": "go",
    ".rs": "rust",
    ".c": "c",
    ".h": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".cxx": "cpp",
    ".hh": "cpp",
    ".hpp": "cpp",
    ".cs": "c_sharp",
    ".rb": "ruby",
    ".php": "php",
    ".sh": "bash",
    ".bash": "bash",
}
_GRAMMARS = {  # modules and functions that are not tree_sitter_LANGUAGE.language
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "php": ("tree_sitter_php", "language_php"),
}
# The kinds of syntax nodes that are headings where they have a name and hold the piece.
_DEFINITIONS = re.compile(
    r"((generator_)?function|method|constructor|(abstract_)?class|interface|enum|struct|record|trait"
    r"|namespace|decorated)_(definition|declaration|item|specifier)"
    r"|method|singleton_method|class|module|internal_module|impl_item|mod_item|type_spec"
)
_AFTER = re.compile(r"\W+\Z")  # what may stand behind the end of a definition, as a bracket
_FUNCTIONS = ("arrow_function", "function_expression")  # which a variable names
_DEEPEST = 200  # levels of syntax; the library's time grows with their square


@dataclass(frozen=True)
class Piece:
    """A part of a source file.

    :ivar first_line: where it begins, counted from 1.
    :ivar last_line: where it ends.
    :ivar headings: names of the definitions it stands in, the outermost first.
    """

    text: str
    first_line: int
    last_line: int
    headings: tuple[str, ...]


@dataclass(frozen=True)
class _Definition:
    start: int
    end: int
    name: str


def cut_code(text: str, language: str, max_characters: int) -> list[Piece] | None:
    """Cut source code, which may have mistakes in it.

    :param language: one of the values of :data:`LANGUAGES`.
    :returns: pieces of at most ``max_characters``, in their order, without the blank lines
        between them; None if the code is nested so deeply that it is to be cut as text.
    :raises ImportError: if a package is missing.
    """
    from semantic_text_splitter import CodeSplitter
    from tree_sitter import Language, Parser

    module, function = _GRAMMARS.get(language, (f"tree_sitter_{language}", "language"))
    grammar = getattr(import_module(module), function)()
    data = text.encode("utf-8", "replace")  # which has the same number of characters
    definitions = _definitions(Parser(Language(grammar)).parse(data).root_node)
    if definitions is None:
        return None
    definitions = _in_characters(definitions, data)
    chunks = CodeSplitter(grammar, max_characters).chunk_indices(data.decode())
    around = _around(definitions, [start for start, _ in chunks])
    spans = [
        part
        for (start, chunk), inside in zip(chunks, around, strict=True)
        for part in _cut_at_ends(text, start, start + len(chunk), inside)
    ]
    spans = _without_scraps(text, spans, max_characters)
    around = _around(definitions, [start for start, _ in spans])
    newlines = [i for i, character in enumerate(text) if character == "\n"]
    named: list[tuple[int, int, tuple[str, ...]]] = []
    for (start, end), inside in zip(spans, around, strict=True):
        last = start + len(_AFTER.sub("", text[start:end]))
        names = tuple(one.name for one in inside if last <= one.end)
        if named and names and names == named[-1][2] and end - named[-1][0] <= max_characters:
            start = named.pop()[0]  # of one definition, as its first line and its body
        named.append((start, end, names))
    pieces = []
    for start, end, names in named:
        line = text.rfind("\n", 0, start) + 1
        if not text[line:start].strip() and end - line <= max_characters:
            start = line  # with its indentation
        lines = [bisect_right(newlines, place - 1) + 1 for place in (start, end)]
        pieces.append(Piece(text[start:end], lines[0], lines[1], names))
    return pieces


def _in_characters(definitions: list[_Definition], data: bytes) -> list[_Definition]:
    """The definitions, whose places are counted in bytes, counted in characters."""
    places = sorted({place for one in definitions for place in (one.start, one.end)})
    counted = {}
    before = characters = 0
    for place in places:
        characters += len(data[before:place].decode())
        counted[place] = characters
        before = place
    return [_Definition(counted[one.start], counted[one.end], one.name) for one in definitions]


def _around(
    definitions: Sequence[_Definition], places: Sequence[int]
) -> Iterator[list[_Definition]]:
    """The definitions around each of the places, the outermost first; all are in their order."""
    inside: list[_Definition] = []
    begun = 0
    for place in places:
        while begun < len(definitions) and definitions[begun].start <= place:
            inside.append(definitions[begun])
            begun += 1
        inside = [one for one in inside if one.end > place]
        yield inside


def _cut_at_ends(
    text: str, start: int, end: int, inside: Sequence[_Definition]
) -> Iterator[tuple[int, int]]:
    """Cut a span behind each definition that it begins within and goes beyond."""
    for one in reversed(inside):  # inner ones first
        rest = text[one.end : end]
        if one.start < start < one.end < end and _has_word(rest):
            yield start, one.end
            start = end - len(rest.lstrip())
    yield start, end


def _without_scraps(
    text: str, spans: list[tuple[int, int]], max_characters: int
) -> list[tuple[int, int]]:
    """The spans, with those that hold no word, as a lone bracket, joined to one beside them."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined:
            earlier_start, earlier_end = joined[-1]
            scrap = not (_has_word(text[start:end]) and _has_word(text[earlier_start:earlier_end]))
            if scrap and end - earlier_start <= max_characters:
                joined[-1] = earlier_start, end
                continue
        joined.append((start, end))
    return joined


def _has_word(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _definitions(root: "Node") -> list[_Definition] | None:
    """Definitions, outer ones first; None if the syntax is nested too deeply."""
    found: list[_Definition] = []
    cursor = root.walk()
    depth = 0
    while True:
        node = cursor.node
        if node is not None and node.is_named and (name := _name(node)):
            one = _Definition(node.start_byte, node.end_byte, name)
            decorated = found and (found[-1].end, found[-1].name) == (one.end, name)
            if not decorated:
                found.append(one)
        if cursor.goto_first_child():
            depth += 1
            if depth > _DEEPEST:
                return None
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return found
            depth -= 1


def _name(node: "Node") -> str | None:
    """The name of a definition; None for other nodes."""
    if node.type == "variable_declarator":
        value = node.child_by_field_name("value")
        if value is None or value.type not in _FUNCTIONS:
            return None
    elif not _DEFINITIONS.fullmatch(node.type):
        return None
    elif node.type.endswith("_specifier") and node.child_by_field_name("body") is None:
        return None  # a type that is used, not defined
    if node.type == "decorated_definition":  # Python's decorators and what they stand before
        defined = node.child_by_field_name("definition")
        return _name(defined) if defined is not None else None
    named: Any = node.child_by_field_name("name")
    if named is None and node.type == "impl_item":
        named = node.child_by_field_name("type")
    inner = node
    while named is None and inner is not None:  # C: the name stands in the declarator's declarator
        inner = inner.child_by_field_name("declarator")  # type: ignore[assignment]
        if inner is not None and inner.child_by_field_name("declarator") is None:
            named = inner
    return named.text.decode() if named is not None and named.text else None
