"""What ``_headers`` and ``_redirects`` share: path patterns with placeholders and splats, and how lines are read. Pure.

Source: the published rules of Netlify (https://docs.netlify.com/routing/) and Cloudflare Pages
(https://developers.cloudflare.com/pages/configuration/). What differs:

- netlify: ``:name`` is a whole segment; ``/a/*`` matches ``/a``; the case of ASCII letters and one trailing "/" do not count.
- cloudflare: ``:name`` and one ``*`` stand anywhere; every letter and slash counts.

Laws:
- Paths are the client's to choose: a pattern takes time linear in the path, and no path makes it raise.
- A pattern is written as in a URL, encoded or not; it is compared with decoded paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import pairwise
from string import ascii_lowercase, ascii_uppercase
from typing import Literal
from urllib.parse import unquote

from assetserver.errors import PublishError
from assetserver.semantics.targets import LIMIT_BYTES

Dialect = Literal["netlify", "cloudflare"]

SPLAT = "splat"
LIMIT_TEXT = 1 << 20
LIMIT_RULES = 10_000
LIMIT_WILDCARDS = 32
LIMIT_COMPLAINTS = 1_000
"""Characters of a file, rules in it, wildcards of a pattern, and complaints that one error lists."""

PLACEHOLDER = re.compile(r":([A-Za-z][A-Za-z0-9_]*)")
_WILD = {
    "netlify": re.compile(r"(\*)|(?<=/):([A-Za-z][A-Za-z0-9_]*)(?=/|\Z)"),
    "cloudflare": re.compile(r"(\*)|:([A-Za-z][A-Za-z0-9_]*)"),
}
_FLAGS = {"netlify": re.DOTALL | re.IGNORECASE | re.ASCII, "cloudflare": re.DOTALL}
_PART_OF_SEGMENT = re.compile(r"/:[A-Za-z](?![A-Za-z0-9_]*(?:/|\Z))")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NEVER_IN_A_PATH = re.compile(r"%2[Ff]|%5[Cc]|%[01][0-9A-Fa-f]|%7[Ff]|\\|//|/(?:\.|%2[Ee]){1,2}(?:/|\Z)")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_HOST = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
_FOLD = str.maketrans(ascii_uppercase, ascii_lowercase)

_NOTHING: Mapping[str, str] = {}


class Complaints:
    """What is wrong with ``file``, line by line: errors that stop publishing, and warnings."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._errors: list[tuple[int, str]] = []
        self._warnings: list[tuple[int, str]] = []

    def refuse(self, line: int, why: str) -> None:
        """Note that ``line`` cannot stay as it is."""
        self._errors.append((line, why))

    def warn(self, line: int, why: str) -> None:
        """Note that ``line`` does something else than it seems to."""
        self._warnings.append((line, why))

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings, in the order of the lines."""
        return tuple(f"{self._file}:{line}: {why}" for line, why in sorted(self._warnings))

    def raise_all(self) -> None:
        """Raise ``PublishError`` with every line that was refused, one message a line; do nothing if none was."""
        if not self._errors:
            return
        listed = [f"{self._file}:{line}: {why}" for line, why in sorted(self._errors)[:LIMIT_COMPLAINTS]]
        if (more := len(self._errors) - len(listed)) > 0:
            listed.append(f"{self._file}: and {more:,} more lines")
        raise PublishError("\n".join(listed))


def read_lines(text: str, complaints: Complaints, limit: int) -> Iterator[tuple[int, str]]:
    """Yield ``(number, trimmed line)`` of every line that says something: neither blank nor a comment.

    A byte order mark and CRLF are tolerated. Lines longer than ``limit`` characters, and those with control characters, are
    refused and left out; so is a text longer than ``LIMIT_TEXT``, whole.
    """
    if len(text) > LIMIT_TEXT:
        complaints.refuse(1, f"the file is {len(text):,} characters long; {LIMIT_TEXT:,} are read, so shorten it")
        return
    for number, whole in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = whole.removesuffix("\r").strip(" \t")
        if not line or line.startswith("#"):
            continue
        if fault := _fault_of(line, limit):
            complaints.refuse(number, fault)
        else:
            yield number, line


def _fault_of(line: str, limit: int) -> str:
    if len(line) > limit:
        return f"the line is {len(line):,} characters long; {limit:,} are read, so split or shorten it"
    if found := _CONTROL.search(line):
        return f"the line holds the control character {found[0]!r}; remove it"
    try:
        line.encode()
    except UnicodeError:
        return "the line is not UTF-8; save the file as UTF-8"
    return ""


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A pattern of paths: ``text`` as written, ``names`` of its placeholders (``SPLAT`` among them), how it is matched.

    ``key``: what all paths have in common that a pattern without wildcards matches, else None. ``prefix``: the folded segments
    before the first wildcard. ``segments``: one per segment, None for a placeholder, then perhaps the splat (``is_open``); or
    ``regex``, where that does not say it all.
    """

    text: str
    dialect: Dialect
    names: tuple[str, ...]
    key: str | None
    prefix: str
    segments: tuple[str | None, ...] = ()
    is_open: bool = False
    regex: re.Pattern[str] | None = None

    @property
    def probe(self) -> tuple[int, str]:
        """Which segment after a placeholder is text, and that text: what every path that matches has there; -1 if none is."""
        first = self.segments.index(None) if None in self.segments else len(self.segments)
        return next(((place, text) for place, text in enumerate(self.segments) if place > first and text), (-1, ""))

    def match(self, path: SplitPath) -> Mapping[str, str] | None:
        """Return what the placeholders stand for in ``path``, decoded, or None if it does not match."""
        if self.key is not None:
            return _NOTHING if self.key == path.folded else None
        if self.regex is not None:
            found = self.regex.fullmatch(path.whole)
            return None if found is None else found.groupdict("")
        return self._match_segments(path)

    def _match_segments(self, path: SplitPath) -> Mapping[str, str] | None:
        extra = len(path.folded_parts) - len(self.segments)
        least = 1 if self.is_open and self.dialect == "cloudflare" else 0
        if extra < least or (extra and not self.is_open):
            return None
        for wanted, part in zip(self.segments, path.folded_parts, strict=False):
            if wanted != part and (wanted is not None or not part):
                return None
        found = [part for part, wanted in zip(path.parts, self.segments, strict=False) if wanted is None]
        if self.is_open:
            found.append("/".join(path.parts[len(self.segments) :]))
        return dict(zip(self.names, found, strict=True))


class SplitPath:
    """A decoded path, beginning with "/", as patterns of a dialect look at it: ``folded`` is what is compared."""

    __slots__ = ("folded", "folded_parts", "parts", "whole")

    def __init__(self, path: str, dialect: Dialect) -> None:
        self.whole = path
        self.folded = fold(path, dialect)
        self.parts = path[1:].split("/")
        self.folded_parts = self.folded[1:].split("/") if self.folded else []


def fold(path: str, dialect: Dialect) -> str:
    """Return what of ``path`` counts: for netlify without upper case (ASCII only) and without a "/" at the end."""
    return path if dialect == "cloudflare" else _fold_letters(path, dialect).removesuffix("/")


def compile_pattern(text: str, dialect: Dialect) -> PathPattern:
    """Return the pattern that ``text`` writes. Raises ``ValueError``, saying what is wrong and the remedy."""
    _check_text(text, dialect)
    shape = text[:1] + text[1:].removesuffix("/") if dialect == "netlify" else text
    pieces = list(_split(shape, dialect))
    wilds = [piece for piece in pieces if not isinstance(piece, str)]
    names = tuple(wild.name for wild in wilds)
    _check_wilds(text, names, dialect)
    plain = "".join(piece for piece in pieces if isinstance(piece, str))
    if not wilds:
        return PathPattern(text, dialect, (), fold(plain, dialect), "")
    prefix = _fold_letters(unquote(_before_wildcard(shape, dialect)), dialect)
    is_open = shape.endswith("/*")
    segments = _segments(shape, dialect, is_open=is_open)
    if segments is not None:
        return PathPattern(text, dialect, names, None, prefix, segments, is_open)
    regex = re.compile(_translate(pieces, dialect, is_open=is_open), _FLAGS[dialect])
    return PathPattern(text, dialect, names, None, prefix, regex=regex)


class PatternIndex:
    """Many patterns in the order of their file: those without wildcards in a dictionary, the others by what they hold of text.

    That is the segments before the first wildcard, and the first segment after it that is text: 10,000 of ``/a/:x/page-1`` took
    7 ms for a path without it, and take 4 µs (2026-11-22).
    """

    def __init__(self, patterns: Sequence[PathPattern], dialect: Dialect) -> None:
        self._patterns = patterns
        self._dialect = dialect
        self._static: dict[str, list[int]] = {}
        self._dynamic: dict[tuple[str, int, str], list[int]] = {}
        probes: dict[str, set[int]] = {}
        for position, pattern in enumerate(patterns):
            if pattern.key is not None:
                self._static.setdefault(pattern.key, []).append(position)
                continue
            place, text = pattern.probe
            self._dynamic.setdefault((pattern.prefix, place, text), []).append(position)
            probes.setdefault(pattern.prefix, set()).add(place)
        self._probes = {prefix: tuple(places) for prefix, places in probes.items()}
        self._depth = max((prefix.count("/") for prefix in probes), default=-1)

    def find(self, path: str) -> Iterator[tuple[int, Mapping[str, str]]]:
        """Yield ``(position, what its placeholders stand for)`` of every pattern that ``path`` matches, in order.

        ``path`` is decoded. One that does not begin with "/", or is longer than a path can be, matches nothing. Never raises.
        """
        if not path.startswith("/") or len(path) > LIMIT_BYTES:
            return
        split = SplitPath(path, self._dialect)
        some = [one for one in self._candidates(split) if one]
        for position in some[0] if len(some) == 1 else merge(*some):
            found = self._patterns[position].match(split)
            if found is not None:
                yield position, found

    def _candidates(self, split: SplitPath) -> Iterator[list[int]]:
        """Yield the positions, each list in order, of the patterns that may match."""
        folded, parts = split.folded, split.folded_parts
        yield self._static.get(folded, [])
        stop = -1
        for _ in range(self._depth + 1):
            stop = folded.find("/", stop + 1)
            prefix = folded if stop < 0 else folded[:stop]
            for place in self._probes.get(prefix, ()):
                text = parts[place] if 0 <= place < len(parts) else ""
                yield self._dynamic.get((prefix, place, text), [])
            if stop < 0:
                break


@dataclass(frozen=True, slots=True)
class _Wild:
    name: str
    is_star: bool


def _fold_letters(text: str, dialect: Dialect) -> str:
    if dialect == "cloudflare":
        return text
    return text.lower() if text.isascii() else text.translate(_FOLD)


def _before_wildcard(text: str, dialect: Dialect) -> str:
    """Return the whole segments before the first wildcard, as written."""
    first = _WILD[dialect].split(text, 1)[0]
    return first[: first.rindex("/")]


def _check_text(text: str, dialect: Dialect) -> None:
    if _HOST.match(text):
        raise ValueError(f"{text} names a host; rules hold for every host of the site, so write the path alone")
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not a path; begin it with /")
    if "?" in text or "#" in text:
        raise ValueError(f"{text} holds ? or #; a pattern is the path alone, so remove the rest or write %3F or %23")
    if _BROKEN_ESCAPE.search(text):
        raise ValueError(f"{text} holds a % that two hexadecimal digits do not follow; write %25")
    if found := _NEVER_IN_A_PATH.search(text):
        raise ValueError(f"{text} can match nothing: no path holds {found[0]}; remove it")
    if dialect == "netlify" and _PART_OF_SEGMENT.search(text):
        raise ValueError(f"{text} has a placeholder that is not a whole segment; write /:name/, or %3A for a colon")
    try:
        unquote(text, errors="strict")
    except UnicodeError as error:
        raise ValueError(f"{text} is not UTF-8 when decoded; encode it as UTF-8") from error


def _check_wilds(text: str, names: tuple[str, ...], dialect: Dialect) -> None:
    if len(names) > LIMIT_WILDCARDS:
        raise ValueError(f"{text} holds {len(names)} wildcards; {LIMIT_WILDCARDS} are known, so match a part of the path")
    named = [name for name in names if name != SPLAT]
    stars = text.count("*")
    if len(named) != len(set(named)) or len(names) != len(named) + stars:
        raise ValueError(f"{text} uses a placeholder's name twice, or :splat for one; give each a name of its own")
    if "**" in text:
        raise ValueError(f"{text} holds **; * already crosses folders, so write one")
    if dialect == "cloudflare" and stars > 1:
        raise ValueError(f"{text} holds {stars} *; the cloudflare dialect knows one a pattern")
    for segment in text.split("/"):
        found = [match[2] for match in _WILD[dialect].finditer("/" + segment)]
        if any(found) and len(found) > 1:
            raise ValueError(f"{text} has {segment!r} with two placeholders in a segment; put a / between them")


def _split(text: str, dialect: Dialect) -> Iterator[str | _Wild]:
    """Yield decoded text and wildcards, as they follow one another."""
    start = 0
    for match in _WILD[dialect].finditer(text):
        yield unquote(text[start : match.start()])
        yield _Wild(match[2] or SPLAT, match[1] is not None)
        start = match.end()
    yield unquote(text[start:])


def _segments(text: str, dialect: Dialect, *, is_open: bool) -> tuple[str | None, ...] | None:
    """Return the segments before the splat, if every wildcard but it is a whole segment; None if it takes a regex."""
    body = text.removesuffix("/*") if is_open else text
    segments: list[str | None] = []
    for segment in body.split("/")[1:]:
        is_name = PLACEHOLDER.fullmatch(segment) is not None
        if not is_name and _WILD[dialect].search("/" + segment):
            return None
        segments.append(None if is_name else _fold_letters(unquote(segment), dialect))
    return tuple(segments)


def _translate(pieces: list[str | _Wild], dialect: Dialect, *, is_open: bool) -> str:
    """Return the expression for ``pieces``, which names what it finds only in the cloudflare dialect."""
    if dialect == "cloudflare":
        return "".join(map(_translate_named, pieces))
    if not is_open:
        return _translate_stars(pieces) + "/?"
    *before, slash, _, _ = pieces  # ..., "…/", the star, ""
    return f"(?:{_translate_stars(pieces)}|{_translate_stars([*before, str(slash).removesuffix('/')])}/?)"


def _translate_stars(pieces: list[str | _Wild]) -> str:
    """Match every star but the last at the first place that fits, for good: a later place can never do better.

    With plain ``.*`` for each, three stars would take time by the cube.
    """
    stars = [index for index, piece in enumerate(pieces) if isinstance(piece, _Wild) and piece.is_star]
    pattern = "".join(map(_translate_unnamed, pieces[: stars[0]]))
    for start, stop in pairwise([*stars, len(pieces)]):
        fixed = "".join(map(_translate_unnamed, pieces[start + 1 : stop]))
        pattern += f".*{fixed}" if stop == len(pieces) else f"(?>.*?{fixed})"
    return pattern


def _translate_unnamed(piece: str | _Wild) -> str:
    return re.escape(piece) if isinstance(piece, str) else "[^/]+"


def _translate_named(piece: str | _Wild) -> str:
    if isinstance(piece, str):
        return re.escape(piece)
    return f"(?P<{piece.name}>{'.*' if piece.is_star else '[^/]+'})"
