"""TOML with places: on which line each key stands, and messages of one line that name the place, key and value.

:mod:`tomllib` keeps no line numbers. The scanner here decides nothing about a document: the text must already have been
accepted by :mod:`tomllib`, so that it may follow the few tokens that separate keys from values (TOML 1.0, "Keys",
"Table", "Array of Tables") and skip the rest. Keys inside an inline table are not told apart; they stand where their
table stands.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from assetserver.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

NOT_SHOWN = "…"

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


def locate(sources: Mapping[Location, str], location: Location) -> str:
    """Return where a value stands: its own place, else that of its nearest table, else ``"default"``."""
    while location and location not in sources:
        location = location[:-1]
    return sources.get(location, "default")


@dataclass(frozen=True, slots=True)
class Layer:
    """What one origin says: its values, where each stands, and the folder against which its paths resolve."""

    tree: dict[str, Any]
    sources: dict[Location, str]
    folder: str = ""

    def put(self, location: Location, source: str, value: object) -> None:
        """Add the value of a top-level key, or of a key in a top-level table."""
        *tables, key = map(str, location)
        table = self.tree.setdefault(tables[0], {}) if tables else self.tree
        table[key] = value
        self.sources[location] = source

    def put_text(self, location: Location, source: str, kind: type, text: str, *, item: type = str, shows: bool = True) -> None:
        """Add a value that is written as text, as in a variable; raise SettingsError if it is not of its kind.

        ``shows``: whether the message may have the text.
        """
        try:
            value = _parse_text(kind, text, item)
        except (ValueError, KeyError, RecursionError, msgspec.DecodeError):
            expected = _expect(kind, item) + (" in JSON" if kind in (list, tuple, dict) else "")
            got = format_value(text) if shows else NOT_SHOWN
            problem = f"expected {expected} for {format_key(location)}, got {got}"
            raise SettingsError(f"{source}: {problem}") from None
        self.put(location, source, value)

    def error(self, location: Location, problem: str) -> SettingsError:
        """Return the error to raise: the place, then the problem."""
        return SettingsError(f"{locate(self.sources, location)}: {problem}")

    def check_kind(self, location: Location, kind: type, value: object, item: type = str) -> None:
        """Raise SettingsError unless the value may stand where ``kind`` is expected, an array of ``item`` if it is one."""
        if not _is_kind(kind, value):
            found = name_kind(type(value))
            raise self.error(location, f"expected {_expect(kind, item)} for {format_key(location)}, got {found}")

    def resolve(self, location: Location, path: str) -> str:
        """Return a path as an absolute one; an empty one stays empty.

        It is joined, not normalised: ``current/..`` may lead elsewhere when ``current`` is a symbolic link.
        """
        if not path or os.path.isabs(path):
            return path
        try:
            return os.path.join(os.path.abspath(self.folder), path)
        except OSError:
            problem = f"{format_key(location)} is relative, but the working directory is gone; give an absolute path"
            raise self.error(location, problem) from None


def read_toml(path: str, origin: str) -> Layer:
    """Return the content of a TOML file, each key with its line: ``assetserver.toml:12``.

    Raises:
        SettingsError: It cannot be read, or is not TOML. ``origin`` is what named the file, and so what to correct.
    """
    name = printable(path) or '""'
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise SettingsError(f"{name}: no such file; create it or correct {origin}") from None
    except IsADirectoryError:
        raise SettingsError(f"{name}: is a directory; name the TOML file in it with {origin}") from None
    except OSError as error:
        raise SettingsError(f"{name}: cannot be read ({error.strerror}); allow it or correct {origin}") from None
    except ValueError:  # a null character, or one that the file system cannot encode
        raise SettingsError(f"{name}: is not a possible file name; correct {origin}") from None
    text = _decode(content, name)
    tree = _parse(text, name)
    return Layer(tree, {key: f"{name}:{line}" for key, line in scan_lines(text).items()}, os.path.dirname(path))


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")  # editors on Windows put a byte order mark first
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise SettingsError(f"{name}:{line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # tomllib of Python 3.11 keeps the position only in the text of its message.
        problem, _, position = str(error).removesuffix(")").rpartition(" (at ")
        line, column = re.findall(r"\d+", position) or _end(text)
        raise SettingsError(f"{name}:{line}: not TOML at column {column}: {problem[:1].lower()}{problem[1:]}") from None
    except ValueError:  # int() refuses more than 4300 digits
        raise SettingsError(f"{name}: a number has too many digits; write a smaller one") from None
    except RecursionError:
        raise SettingsError(f"{name}: arrays or tables are nested too deeply; write them flatter") from None


def _end(text: str) -> tuple[int, int]:
    return text.count("\n") + 1, len(text) - text.rfind("\n")


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
        for part, line in self.tokens:
            if part == "[":
                self._read_header(line)
            elif part not in ("\n", "]"):
                self._read_pair(part, line)

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
        for part, _ in self.tokens:
            if part == stop:
                break
            if part != ".":
                keys.append(_unquote(part))
        return keys

    def _skip_value(self, location: Location) -> None:
        """Pass over a value, up to the end of its last line; note where the elements of an array begin."""
        depth = index = 0
        in_array = begins = False
        for part, line in self.tokens:
            if part == "\n":
                if depth == 0:
                    return
                continue
            if begins and part != "]":
                self._mark((*location, index), line)
                index += 1
            in_array = in_array or (depth == 0 and part == "[")
            begins = in_array and ((depth == 0 and part == "[") or (depth == 1 and part == ","))
            depth += (part in ("[", "{")) - (part in ("]", "}"))

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
        part = match[0]
        if not part.startswith("#"):
            yield part, line
        line += part.count("\n")


def _unquote(key: str) -> str:
    return str(tomllib.loads(f"key = {key}")["key"]) if key[0] in "\"'" else key


def printable(text: str) -> str:
    """Return the text if it can stand in one line, else an escaped form of it."""
    return text if text.isprintable() else ascii(text)[1:-1]


def format_key(location: Location) -> str:
    """Return a location as people write it: ``mounts[0].directory``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in location)
    return "".join(parts).removeprefix(".")


def format_value(value: object) -> str:
    """Return a value as TOML writes it, on one line of at most 80 characters."""
    if isinstance(value, int) and value.bit_length() > 64:  # noqa: PLR2004 - str() refuses more than 4300 digits
        text = hex(value)
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=not value.isprintable())
    else:
        text = json.dumps(value) if isinstance(value, bool | list | tuple) else str(value)
    return text if len(text) <= 80 else text[:79] + "…"  # noqa: PLR2004


def format_bytes(count: int) -> str:
    """Return a number of bytes, and the same in the largest unit that divides it: ``2048 (2 KiB)``."""
    units = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}
    exact = (f"{count} ({count // size} {unit})" for unit, size in units.items() if count and count % size == 0)
    return next(exact, str(count))


_KINDS: dict[type, str] = {
    dict: "a table",
    list: "an array",
    tuple: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    type(None): "null",
}


_BOOLEANS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


def name_kind(kind: type) -> str:
    """Name the TOML type of a Python class, with its article; a class that TOML does not have by its own name."""
    return "a date or time" if kind.__module__ == "datetime" else _KINDS.get(kind, kind.__name__)


def _expect(kind: type, item: type = str) -> str:
    items = f"an array of {name_kind(item).split()[-1]}s"
    expected = {bool: "true or false", float: "a number", tuple: items, list: "an array of tables"}
    return expected.get(kind) or name_kind(kind)


def _parse_text(kind: type, text: str, item: type = str) -> object:
    if kind in (list, dict) or (kind is tuple and text.lstrip().startswith("[")):
        return msgspec.json.decode(text)
    if kind is tuple:
        return [item(part) for part in map(str.strip, text.split(",")) if part]
    return _BOOLEANS[text.strip().lower()] if kind is bool else kind(text)


def _is_kind(kind: type, value: object) -> bool:
    if isinstance(value, bool):  # a number in Python, but not in TOML
        return kind is bool
    accepted = {float: (int, float), tuple: (list, tuple), list: (list, tuple)}
    return isinstance(value, accepted.get(kind, kind))


def suggest(name: str, known: Iterable[str], show: Callable[[str], str]) -> str:
    """Return the remedy for an unknown name: the known one spelt alike, in full or within its table, else all of them.

    Names are dotted, and written by ``show``. Of the names in one table, a list has only what they begin with.
    """
    by_name = {other: other for other in known}
    by_key = {other.rpartition(".")[2]: other for other in by_name}
    for names in (by_name, by_key):
        near = difflib.get_close_matches(name[:100], names, 1)
        if near:
            return f"did you mean {show(names[near[0]])}?"
    beginnings = dict.fromkeys(re.sub(r"\..*", ".", other) for other in by_name)
    return f"known: {', '.join(map(show, beginnings))}"
