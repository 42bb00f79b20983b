"""``_headers`` of a published folder: fields that answers get, by path. Pure.

Blocks: a path on a line, then ``name: value`` lines; indentation says nothing. Every block that matches applies. Cloudflare:
``! name`` removes a field, and values may hold ``:name`` and ``:splat`` of the path.

Laws:
- What a client sends never ends a field, nor adds a directive to one: values hold only what the file says, and of paths only
  letters, digits, ``-._~/`` and percent escapes.
- What the server makes from the content, or the connection from the message, is not for a file to say (RFC 9110 §6.4, §8).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from assetserver.semantics.caching import check_cache_control
from assetserver.semantics.fields import is_token
from assetserver.semantics.representation import Field

from .patterns import LIMIT_RULES, PLACEHOLDER, Complaints, Dialect, PatternIndex, compile_pattern, read_lines

FILE = "_headers"
LIMIT_LINE = {"netlify": 8_000, "cloudflare": 2_000}
"""Characters of a line: Cloudflare's own limit; content security policies of Netlify sites are longer than it."""

_FRAMING = "it belongs to the connection, which the server looks after; remove the line"
_CONTENT = "the server makes it from the content of each file; remove the line"
_OWNED = {
    **dict.fromkeys(("connection", "content-length", "date", "keep-alive", "te", "trailer", "transfer-encoding"), _FRAMING),
    **dict.fromkeys(("proxy-authenticate", "proxy-authorization", "proxy-connection", "server", "upgrade"), _FRAMING),
    **dict.fromkeys(("accept-ranges", "age", "allow", "content-digest", "content-encoding", "content-range"), _CONTENT),
    **dict.fromkeys(("etag", "last-modified", "repr-digest", "unencoded-digest"), _CONTENT),
    "basic-auth": "it would send the passwords to everybody; protect the site in its settings or in the proxy before it",
    "location": "write a line in _redirects instead",
    "status": "write a line in _redirects instead",
    "www-authenticate": "protect the site in its settings or in the proxy before it",
}
_VALUE = re.compile(r"[\t !-~\xa0-\xff]+")
_SEPARATE = b"set-cookie"
"""The one field whose lines must not be joined (RFC 9110 §5.3)."""
_SINGLE = frozenset(
    {
        b"access-control-allow-origin",
        b"cache-control",
        b"cdn-cache-control",
        b"content-disposition",
        b"content-type",
        b"cross-origin-embedder-policy",
        b"cross-origin-opener-policy",
        b"cross-origin-resource-policy",
        b"strict-transport-security",
        b"x-content-type-options",
        b"x-frame-options",
    }
)
"""Fields that mean one thing: of several blocks the last decides. Joined, as all others are, they would mean nothing; two
lifetimes would mean the shorter one in some caches and the longer in others."""
_LIMIT_KNOWN = 1_024


class HeaderRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A block of ``_headers``: ``path`` as written, ``fields`` to set (lower-case name, value), names to ``unset``."""

    path: str
    fields: tuple[tuple[str, str], ...] = ()
    unset: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HeaderChanges:
    """What an answer gets: first the server's own fields in ``unset`` go, then each of ``set`` replaces the server's.

    A name is in one of them only, and stands once in ``set``; but for ``set-cookie``, whose lines are all sent, and ``vary``,
    whose members are added to the server's own.
    """

    set: tuple[Field, ...] = ()
    unset: frozenset[bytes] = frozenset()


NO_CHANGES = HeaderChanges()


def parse_headers(text: str, dialect: Dialect) -> tuple[tuple[HeaderRule, ...], tuple[str, ...]]:
    """Return the blocks of a ``_headers`` file, and warnings for people, each beginning ``_headers:LINE:``.

    Raises ``PublishError`` that names every line which cannot be used, with the remedy.
    """
    complaints = Complaints(FILE)
    blocks: list[_Block] = []
    for number, line in read_lines(text, complaints, LIMIT_LINE[dialect]):
        try:
            _parse_line(number, line, dialect, blocks, complaints)
        except ValueError as error:
            complaints.refuse(number, str(error))
    for block in blocks:
        if not block.lines:
            complaints.warn(block.number, f"no fields follow {block.path}; add some, or remove the line")
    if len(blocks) > LIMIT_RULES:
        complaints.refuse(blocks[LIMIT_RULES].number, f"{len(blocks):,} blocks; {LIMIT_RULES:,} are read, so join some with *")
    complaints.raise_all()
    rules = (HeaderRule(path=one.path, fields=tuple(one.fields), unset=tuple(one.unset)) for one in blocks)
    return tuple(rule for rule in rules if rule.fields or rule.unset), complaints.warnings


class HeaderTable:
    """The blocks of a site, ready to be asked. ``rules`` come from ``parse_headers`` with the same ``dialect``.

    Raises ``ValueError`` for a path that ``parse_headers`` would not return.
    """

    def __init__(self, rules: Iterable[HeaderRule], dialect: Dialect) -> None:
        self._rules = tuple(rules)
        patterns = [compile_pattern(rule.path, dialect) for rule in self._rules]
        self._index = PatternIndex(patterns, dialect)
        self._fills = [
            dialect == "cloudflare" and any(_uses(value, pattern.names) for _, value in rule.fields)
            for rule, pattern in zip(self._rules, patterns, strict=True)
        ]
        self._known: dict[tuple[int, ...], HeaderChanges] = {(): NO_CHANGES}

    def select(self, path: str) -> HeaderChanges:
        """Return what all blocks that match say of ``path`` (decoded, beginning with "/"). Never raises."""
        if not self._rules:
            return NO_CHANGES
        found = list(self._index.find(path))
        if any(self._fills[position] for position, _ in found):
            return self._combine(found)
        key = tuple(position for position, _ in found)
        changes = self._known.get(key)
        if changes is None:
            changes = self._combine(found)
            if len(self._known) < _LIMIT_KNOWN:
                self._known[key] = changes
        return changes

    def _combine(self, found: list[tuple[int, Mapping[str, str]]]) -> HeaderChanges:
        values: dict[bytes, list[bytes]] = {}
        unset: set[bytes] = set()
        for position, captures in found:
            rule = self._rules[position]
            for name in rule.unset:
                values.pop(name.encode(), None)
                unset.add(name.encode())
            for name, value in rule.fields:
                filled = _fill(value, captures) if self._fills[position] else value
                values.setdefault(name.encode(), []).append(filled.encode("latin-1"))
        return HeaderChanges(tuple(_join(values)), frozenset(unset - values.keys()))


@dataclass(slots=True)
class _Block:
    number: int
    path: str
    fields: list[tuple[str, str]]
    unset: list[str]
    lines: int = 0


def _parse_line(number: int, line: str, dialect: Dialect, blocks: list[_Block], complaints: Complaints) -> None:
    if line.startswith(("/", "http://", "https://")):
        blocks.append(_Block(number, line, [], []))
        compile_pattern(line, dialect)
        return
    if not blocks:
        raise ValueError("a field before any path; write the path that it is for on a line above, such as /*")
    block = blocks[-1]
    block.lines += 1
    if line.startswith("!"):
        block.unset.append(_parse_unset(line, dialect))
        return
    name, value = _parse_field(line)
    if complaint := _complaint_about(name, value):
        complaints.warn(number, complaint)
    block.fields.append((name, value))


def _parse_unset(line: str, dialect: Dialect) -> str:
    if dialect != "cloudflare":
        raise ValueError(f"{line!r} removes a field, which only the cloudflare dialect knows; remove the line")
    name = line[1:].strip(" \t").lower()
    if not line.startswith("! ") or not is_token(name):
        raise ValueError(f"{line!r} does not name a field; write ! name, without a value")
    if name == "vary":
        raise ValueError("vary cannot be removed: caches would mix up the codings of a file; remove the line")
    return _check_name(name)


def _parse_field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    name, value = name.strip(" \t").lower(), value.strip(" \t")
    if not colon:
        raise ValueError(f"{line!r} is neither a path nor a field; write name: value, or begin a path with /")
    if not is_token(name):
        raise ValueError(f"{name!r} is not the name of a field; use letters, digits and -")
    if not value:
        raise ValueError(f"{name} has no value; add one, or remove the line")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the value of {name} holds a character that no field can; encode it or leave it out")
    return _check_name(name), value


def _check_name(name: str) -> str:
    if remedy := _OWNED.get(name):
        raise ValueError(f"{name} is not for this file: {remedy}")
    return name


def _complaint_about(name: str, value: str) -> str:
    if name == "vary" and "*" in value:
        return "vary: * keeps every cache from using an answer again; name the fields of requests that it depends on"
    if name not in ("cache-control", "cdn-cache-control"):
        return ""
    try:
        check_cache_control(value, targeted=name != "cache-control")
    except ValueError as error:
        return f"{name}: {error}; it is sent as written"
    return ""


def _uses(value: str, names: Iterable[str]) -> bool:
    return not set(names).isdisjoint(PLACEHOLDER.findall(value))


def _fill(value: str, captures: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        return quote(captures[match[1]], safe="/", errors="replace") if match[1] in captures else match[0]

    return PLACEHOLDER.sub(replace, value)


def _join(values: Mapping[bytes, list[bytes]]) -> Iterable[Field]:
    for name, lines in values.items():
        if name == _SEPARATE:
            yield from ((name, line) for line in lines)
        elif name in _SINGLE:
            yield name, lines[-1]
        else:
            yield name, b", ".join(lines)
