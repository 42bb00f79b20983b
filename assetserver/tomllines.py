"""Where each key of a TOML document stands: the line numbers that :mod:`tomllib` does not keep.

Decides nothing about the document: the text must already have been accepted by :mod:`tomllib`, so that this scanner may
follow the few tokens that separate keys from values (TOML 1.0, "Keys", "Table", "Array of Tables") and skip the rest.
Keys inside an inline table are not told apart; they stand where their table stands.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Location = tuple[str | int, ...]
"""The way to a value from the root: table and key names, and the index of an element in an array."""

# Each alternative begins differently, and the repeats are possessive: time is linear in any text.
_TOKEN = re.compile(
    r"""
      \n
    | \#[^\n]*
    | \"{3} (?: [^"\\] | \\. | "(?!"") )*+ \"{3,5}   # up to two quotes may touch the closing three
    | '{3} (?: [^'] | '(?!'') )*+ '{3,5}
    | " (?: [^"\\] | \\. )*+ "
    | ' [^']*+ '
    | [\[\]{}=,.]
    | [^\s\#"'\[\]{}=,.]++
    """,
    re.VERBOSE | re.DOTALL,
)


def scan_lines(text: str) -> dict[Location, int]:
    """Return the line, from 1, on which each table, key and array element of a valid TOML text begins.

    A table that is only implied, as ``a`` in ``[a.b]``, begins with the first header or key that implies it.
    """
    return _Scanner(text).lines


class _Scanner:
    """One pass over the tokens; ``table`` is where the keys of the current line belong."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Location, int] = {}
        self.table: Location = ()
        self.newest: dict[Location, int] = {}  # array of tables -> index of its last element
        self.tokens = _tokens(text)
        for token, line in self.tokens:
            if token == "[":
                self._read_header(line)
            elif token not in ("\n", "]"):
                self._read_pair(token, line)

    def _read_header(self, line: int) -> None:
        first, _ = next(self.tokens)
        is_array = first == "["
        keys = self._read_keys("]") if is_array else self._read_keys("]", first)
        location = (*self._enter(keys[:-1]), keys[-1])
        if is_array:
            index = self.newest[location] = self.newest.get(location, -1) + 1
            location = (*location, index)
        self._mark(location, line)
        self.table = location

    def _read_pair(self, first: str, line: int) -> None:
        location = (*self.table, *self._read_keys("=", first))
        self._mark(location, line)
        self._skip_value(location)

    def _read_keys(self, stop: str, *first: str) -> list[str]:
        keys = [_unquote(key) for key in first]
        for token, _ in self.tokens:
            if token == stop:
                break
            if token != ".":
                keys.append(_unquote(token))
        return keys

    def _skip_value(self, location: Location) -> None:
        """Pass over a value, up to the end of its last line; note where the elements of an array begin."""
        depth = index = 0
        in_array = begins = False
        for token, line in self.tokens:
            if token == "\n":
                if depth == 0:
                    return
                continue
            if begins and token != "]":
                self._mark((*location, index), line)
                index += 1
            in_array = in_array or (depth == 0 and token == "[")
            begins = in_array and ((depth == 0 and token == "[") or (depth == 1 and token == ","))
            depth += (token in ("[", "{")) - (token in ("]", "}"))

    def _enter(self, keys: list[str]) -> Location:
        """Resolve the keys of a header: the name of an array of tables means its last element."""
        location: Location = ()
        for key in keys:
            location = (*location, key)
            if location in self.newest:
                location = (*location, self.newest[location])
        return location

    def _mark(self, location: Location, line: int) -> None:
        for length in range(1, len(location) + 1):
            self.lines.setdefault(location[:length], line)


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line = 1
    for match in _TOKEN.finditer(text):
        token = match[0]
        if not token.startswith("#"):
            yield token, line
        line += token.count("\n")


def _unquote(key: str) -> str:
    return str(tomllib.loads(f"key = {key}")["key"]) if key[0] in "\"'" else key
