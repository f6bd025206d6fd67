"""JSON text with the place of everything in it, and with a complaint about everything in it that is no JSON.

Text that is right takes the fast way, ``json.loads``. Only text that is not is mended token by token, so that its
other faults can be told in the same go. Where a value stands is asked of tree-sitter, which keeps the place of every
node; its own error recovery is not used, because it guesses.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

from prefect_campaigns.jsonmend import MAX_SLIPS, Mended
from prefect_campaigns.words import shown, tellable

if TYPE_CHECKING:
    from tree_sitter import Language, Node, Tree

Path = tuple[str | int, ...]

_EXPECTED = {
    "Expecting value": "a value is expected here",
    "Expecting property name enclosed in double quotes": "a key in double quotes is expected here",
    "Expecting ':' delimiter": "a colon and a value are expected here, after the key",
    "Expecting ',' delimiter": "a comma, or the end of the list or object, is expected here",
    "Extra data": "something follows the end of the document; a file holds one object and nothing else",
}


@dataclass(frozen=True, kw_only=True)
class Slip:
    """Something that is no JSON: its offset in the text (in characters), and where in the document it is."""

    offset: int
    path: Path
    message: str


class _DuplicateKey(ValueError):
    """An object gives a key twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _DuplicateKey
    return members


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


@cache
def _language() -> Language:
    # Imported here: a process in which every campaign is right never needs it.
    import tree_sitter_json
    from tree_sitter import Language

    return Language(tree_sitter_json.language())


class JsonText:
    """A JSON text that was read.

    Attributes:
        text: the text.
        understood: whether ``data`` is what the text says; otherwise only ``slips`` can be told.
        data: the document; a number with a point or an exponent is a Decimal.
        slips: what is no JSON, in the order of the text.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.data: Any = None
        self.understood = True
        self.slips: list[Slip] = []
        self._mended: Mended | None = None
        self._names: dict[int, dict[int, str | int]] = {}
        self._members: dict[int, dict[str | int, Node]] = {}
        try:
            self.data = json.loads(text, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_object)
        except (ValueError, ArithmeticError, RecursionError):
            # ArithmeticError: an exponent that no Decimal holds.
            self._read_mended()

    def _read_mended(self) -> None:
        self._mended = mended = Mended(self.text)
        if mended.gave_up:
            self._give_up()
            return
        try:
            self.data = json.loads(str(mended), parse_float=Decimal)
        except json.JSONDecodeError as error:
            offset = mended.original(error.pos)
            self._give_up(until=offset)
            if all(slip.offset != offset for slip in self.slips):
                self.slips.append(Slip(offset=offset, path=(), message=self._expected(error)))
            return
        self.slips = [
            Slip(
                offset=mend.offset,
                path=without_names_in_headers(self._path_at(mend.mended_offset)),
                message=mend.message,
            )
            for mend in mended.slips
        ]
        self.slips += islice(self._duplicate_keys(), MAX_SLIPS)
        self.slips.sort(key=lambda slip: slip.offset)

    def _give_up(self, until: int | None = None) -> None:
        """Keep what was found before the place from which nothing is sure any more."""
        assert self._mended is not None  # noqa: S101
        self.understood = False
        self.slips = [
            Slip(offset=mend.offset, path=(), message=mend.message)
            for mend in self._mended.slips
            if until is None or mend.offset <= until
        ]

    def _expected(self, error: json.JSONDecodeError) -> str:
        if not self.text.strip():
            return "the text is empty; a campaign is an object in JSON"
        return _EXPECTED.get(error.msg, error.msg)

    def place(self, offset: int) -> tuple[int, int]:
        """Return line and column of an offset, both counted from 1, the column in characters."""
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def is_doubtful(self, path: Path) -> bool:
        """Whether something else stands in the data than what the text has at this path."""
        return self._mended is not None and self.locate(path) in self._mended.doubtful

    def locate(self, path: Path, *, key: bool = False) -> int:
        """Return the offset at which the value of a path begins, or its key; of what is not there, its parent's."""
        node = self._root
        pair = None
        for part in path:
            member = self._members_of(node).get(part)
            if member is None:
                break
            pair = member if member.type == "pair" else None
            node = _value(member)
        offset = pair.start_byte if key and pair else node.start_byte
        return self._mended.original(offset) if self._mended else offset

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    @cached_property
    def _json(self) -> str:
        return str(self._mended) if self._mended else self.text

    @cached_property
    def _tree(self) -> Tree:
        from tree_sitter import Parser

        # One byte for every character, whatever it is: then tree-sitter's byte offsets count characters.
        return Parser(_language()).parse(self._json.encode("ascii", "replace"))

    @property
    def _root(self) -> Node:
        document = self._tree.root_node
        return document.named_children[0] if document.named_children else document

    def _members_of(self, node: Node) -> dict[str | int, Node]:
        """Return an object's pairs by key (the last of each, as in the data), a list's values by index."""
        if node.id not in self._members:
            named = node.named_children
            if node.type == "object":
                members: dict[str | int, Node] = {self._key(child): child for child in named if child.type == "pair"}
                self._names[node.id] = {child.id: self._key(child) for child in named if child.type == "pair"}
            elif node.type == "array":
                members = dict(enumerate(named))
                self._names[node.id] = {child.id: index for index, child in enumerate(named)}
            else:
                members = {}
            self._members[node.id] = members
        return self._members[node.id]

    def _key(self, pair: Node) -> str:
        key = pair.named_children[0]
        return str(json.loads(self._json[key.start_byte : key.end_byte]))

    def _path_at(self, offset: int) -> Path:
        """Return the path of the innermost value at an offset of the mended text."""
        path: list[str | int] = []
        node = self._root.descendant_for_byte_range(offset, offset)
        while node is not None and (parent := node.parent) is not None:
            self._members_of(parent)
            name = self._names.get(parent.id, {}).get(node.id)
            if name is not None:
                path.append(name)
            node = parent
        return tuple(reversed(path))

    def _duplicate_keys(self) -> Iterator[Slip]:
        todo: list[tuple[Path, Node]] = [((), self._root)]
        while todo:
            path, node = todo.pop()
            first: dict[str, Node] = {}
            for pair in node.named_children if node.type == "object" else ():
                key = self._key(pair)
                if key in first:
                    yield self._duplicate_key((*path, key), pair, first[key])
                first.setdefault(key, pair)
            todo += [((*path, name), _value(member)) for name, member in self._members_of(node).items()]

    def _duplicate_key(self, path: Path, pair: Node, first: Node) -> Slip:
        assert self._mended is not None  # noqa: S101
        line, column = self.place(self._mended.original(first.start_byte))
        *_, key = tellable(path)
        return Slip(
            offset=self._mended.original(pair.start_byte),
            path=path,
            message=f"the key {shown(key)} came again; it is already given at line {line}, column {column},"
            " and a key is given once",
        )


def without_names_in_headers(path: Path) -> Path:
    """Return the path up to a step's headers: where those are no JSON, a name in them may be half of a secret."""
    return path[: path.index("headers") + 1] if "headers" in path else path


def _value(member: Node) -> Node:
    """Return the value of a pair; a list's member is its value."""
    value = member.child_by_field_name("value") if member.type == "pair" else None
    return value or member
