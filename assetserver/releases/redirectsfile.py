"""``_redirects`` of a published folder: which paths lead elsewhere, are answered by another file, or by an error page. Pure.

A line: ``from [key=value…] to [status[!]] [# comment]``. The first line that matches decides. Source: the published rules of
Netlify and Cloudflare Pages, and https://specs.ipfs.tech/http-gateways/web-redirects-file/ for the statuses.

Laws:
- What a client sends never chooses the host: a target's host is written out, and what placeholders stand for is encoded.
- A target is always a URL: "/…" of this site, never "//…", or ``http(s)://host…``; in visible ASCII.
- Only redirects leave the site: nothing is fetched from elsewhere on a client's behalf.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote, unquote, unquote_plus

import msgspec

from .patterns import (
    LIMIT_RULES,
    PLACEHOLDER,
    SPLAT,
    Complaints,
    Dialect,
    PathPattern,
    PatternIndex,
    SplitPath,
    compile_pattern,
    fold,
    read_lines,
)

FILE = "_redirects"
LIMIT_LINE = 2_000
LIMIT_TARGET = 16 * 1024
"""Characters of a line, and of a target once its placeholders are filled in."""
LIMIT_PARAMETERS = 100
"""Parameters of a request's query that are looked at."""

_ERROR_PAGES = frozenset({404, 410, 451})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_STATUSES = {"netlify": _REDIRECTS | _ERROR_PAGES | {200}, "cloudflare": _REDIRECTS | {200}}
_DEFAULT = {"netlify": 301, "cloudflare": 302}

_STATUS = re.compile(r"([0-9]{3})(!?)")
_PARAMETER = re.compile(r"[^/:=?#]+=[^#]*")
_CONDITION = re.compile(r"(?:Country|Language|Role|Cookie)=", re.IGNORECASE)
_TARGET = re.compile(r"(https?://[^/?#]*)?([^?#]*)(\?[^#]*)?(#.*)?", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DOT_SEGMENT = re.compile(r"/(?:\.|%2[Ee]){1,2}(?:/|\Z)")

_SEGMENT_SAFE = "!$&'()*+,;=:@-._~"
_QUERY_SAFE = _SEGMENT_SAFE + "/?%[]"
_FRAGMENT_SAFE = _QUERY_SAFE + "#"
_SAMPLE = "a-name-that-nobody-gave"


class RedirectKind(Enum):
    """What a rule does: send the client elsewhere, answer with another file, or with an error page."""

    REDIRECT = "redirect"
    REWRITE = "rewrite"
    ERROR_PAGE = "error page"


class RedirectRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of ``_redirects``: ``source`` and ``target`` as written, ``query`` sorted. ``force``: it wins over a file."""

    source: str
    query: tuple[tuple[str, str], ...] = ()
    target: str
    status: int
    force: bool = False


@dataclass(frozen=True, slots=True)
class Redirection:
    """What a request gets: ``target`` is an encoded URL, complete with query and fragment for a redirect.

    For a rewrite or an error page it is the path of a file of this site, as a client would write it ("/a%20b.html").
    ``force``: also where the requested path is a file.
    """

    kind: RedirectKind
    status: int
    target: str
    force: bool


def parse_redirects(text: str, dialect: Dialect) -> tuple[tuple[RedirectRule, ...], tuple[str, ...]]:
    """Return the rules of a ``_redirects`` file, and warnings for people, each beginning ``_redirects:LINE:``.

    Raises ``PublishError`` that names every line which cannot be used, with the remedy.
    """
    complaints = Complaints(FILE)
    found: list[tuple[int, _Redirect]] = []
    for number, line in read_lines(text, complaints, LIMIT_LINE):
        try:
            one = _Redirect(_parse_line(line, dialect), dialect)
            one.check(dialect)
            found.append((number, one))
        except ValueError as error:
            complaints.refuse(number, str(error))
    if len(found) > LIMIT_RULES:
        complaints.refuse(found[LIMIT_RULES][0], f"{len(found):,} rules; {LIMIT_RULES:,} are read, so join some with /*")
    _check_together(found, dialect, complaints)
    complaints.raise_all()
    return tuple(one.rule for _, one in found), complaints.warnings


class RedirectTable:
    """The rules of a site, ready to be asked. ``rules`` come from ``parse_redirects`` with the same ``dialect``.

    Raises ``ValueError`` for rules that ``parse_redirects`` would not return.
    """

    def __init__(self, rules: Iterable[RedirectRule], dialect: Dialect) -> None:
        self._rules = [_Redirect(rule, dialect) for rule in rules]
        self._index = PatternIndex([one.pattern for one in self._rules], dialect)
        self.wins_over_files = any(one.rule.force for one in self._rules)
        """Whether some rule wins over a file: if not, ask only when there is no file."""

    def select(self, path: str, query: str, *, forced_only: bool = False) -> Redirection | None:
        """Return what the first rule that matches says, or None. Never raises.

        ``path``: decoded, beginning with "/". ``query``: as sent, without "?". ``forced_only``: for paths that are files; an
        unforced rule that matches first keeps the file, whatever follows.
        """
        if not self._rules:
            return None
        given: dict[str, str] | None = None
        for position, captures in self._index.find(path):
            one = self._rules[position]
            if one.rule.query and given is None:
                given = _parse_query(query)
            values = one.match_query(captures, given or {})
            target = None if values is None else one.fill(values, query)
            if target is not None:
                return Redirection(one.kind, one.rule.status, target, one.rule.force) if one.rule.force >= forced_only else None
        return None


class _Redirect:
    """A rule with its pattern and its target taken apart. Raises ``ValueError`` if one of them cannot be used."""

    __slots__ = ("_fragment", "_origin", "_path", "_query", "_wanted", "kind", "pattern", "rule")

    def __init__(self, rule: RedirectRule, dialect: Dialect) -> None:
        self.rule = rule
        self.pattern = _compile_source(rule.source, dialect)
        self.kind = _kind_of(rule.status)
        match = _TARGET.fullmatch(rule.target)
        self._origin, path, query, fragment = match.groups("") if match else ("", "", "", "")
        _check_target(rule.target, self.kind, self._origin, path)
        self._wanted = tuple((unquote_plus(key), *_split_wanted(value)) for key, value in rule.query)
        names = [*self.pattern.names, *(name for _, name, _ in self._wanted if name)]
        if len(set(names)) < len(names):
            raise ValueError(f"{rule.source} uses a placeholder's name twice; give each a name of its own")
        self._path, self._query, self._fragment = (_split_target(part, names) for part in (path, query, fragment))

    @property
    def leads_to(self) -> str | None:
        """The decoded path on this site to which every client is sent that matches, or None."""
        if self.kind is not RedirectKind.REDIRECT or self._origin or self.rule.query:
            return None
        return unquote(self._path[0]) if len(self._path) == 1 else None

    @property
    def has_unused_query(self) -> bool:
        """Whether the target has a query or a fragment that nothing will see, for files have none."""
        return self.kind is not RedirectKind.REDIRECT and (self._query != ("",) or self._fragment != ("",))

    def match_query(self, captures: Mapping[str, str], given: Mapping[str, str]) -> Mapping[str, str] | None:
        """Return what all placeholders stand for, or None if a parameter is missing or another one is wanted."""
        values = dict(captures)
        for key, name, literal in self._wanted:
            if key not in given or (not name and given[key] != literal):
                return None
            values[name] = given[key]
        return values

    def fill(self, values: Mapping[str, str], query: str) -> str | None:
        """Return the target, or None if what a client sent would make it climb folders or grow beyond all measure.

        The request's ``query`` is passed on, unless the target has one or the rule has looked at it.
        """
        path = _fill(self._path, values, _SEGMENT_SAFE)
        if not self._origin:
            path = "/" + path.lstrip("/")  # "//host" would be another site
        if _DOT_SEGMENT.search(path):
            return None
        target = self._origin + path
        if self.kind is RedirectKind.REDIRECT:
            target += self._fill_query(values, query) + _fill(self._fragment, values, _SEGMENT_SAFE)
        return target if len(target) <= LIMIT_TARGET else None

    def _fill_query(self, values: Mapping[str, str], query: str) -> str:
        if self._query != ("",):
            return _fill(self._query, values, "-._~").removesuffix("?")
        return f"?{quote(query, safe=_QUERY_SAFE, errors='replace')}" if query and not self._wanted else ""

    def check(self, dialect: Dialect) -> None:
        """Raise ``ValueError`` if the rule leads back to itself, or hides every file."""
        if dialect == "cloudflare" and self.kind is RedirectKind.REWRITE and self.rule.source == "/*" and len(self._path) == 1:
            raise ValueError(
                "/* with status 200 would answer every script and style with this page, for a rule of the cloudflare dialect "
                "wins over files; leave it out and set the fallback of the site, or use the netlify dialect"
            )
        if self.kind is not RedirectKind.REDIRECT or self._origin:
            return
        target = self.fill(dict.fromkeys([*self.pattern.names, *(name for _, name, _ in self._wanted)], _SAMPLE), "") or ""
        path, _, query = target.partition("#")[0].partition("?")
        captures = self.pattern.match(SplitPath(unquote(path), dialect))
        if captures is not None and self.match_query(captures, _parse_query(query)) is not None:
            raise ValueError(
                f"{self.rule.target} matches {self.rule.source} again: an endless loop; make {self.rule.source} narrower, "
                "or answer with the file itself, by status 200"
            )


def _parse_line(line: str, dialect: Dialect) -> RedirectRule:
    tokens = _without_comment(line.split())
    source, *rest = tokens
    if dialect == "cloudflare" and (len(rest) > 2 or (rest and _PARAMETER.fullmatch(rest[0]))):  # noqa: PLR2004 - to, status
        raise ValueError("the cloudflare dialect takes from, to and perhaps a status, nothing else; remove the rest")
    query: list[tuple[str, str]] = []
    while rest and _PARAMETER.fullmatch(rest[0]):
        key, _, value = rest.pop(0).partition("=")
        query.append((key, value))
    if len({key for key, _ in query}) < len(query):
        raise ValueError("a query parameter stands twice; name each once")
    target = _take_target(source, rest, dialect)
    status, force = _take_status(rest, dialect)
    return RedirectRule(source=source, query=tuple(sorted(query)), target=target, status=status, force=force)


def _without_comment(tokens: list[str]) -> list[str]:
    for index, token in enumerate(tokens[2:], 2):
        if token.startswith("#"):
            return tokens[:index]
    return tokens


def _take_target(source: str, rest: list[str], dialect: Dialect) -> str:
    """Take the target from ``rest``; a netlify rule ``/x/* 200`` has none: it leaves these paths to their files."""
    if rest and not _STATUS.fullmatch(rest[0]):
        return rest.pop(0)
    if dialect == "netlify" and rest and rest[0].startswith("200") and source.endswith("/*"):
        return source.removesuffix("*") + ":" + SPLAT
    raise ValueError(f"no target after {source}; write: from to status")


def _take_status(rest: list[str], dialect: Dialect) -> tuple[int, bool]:
    always = dialect == "cloudflare"
    if not rest:
        return _DEFAULT[dialect], always
    match = _STATUS.fullmatch(rest[0])
    conditions = rest[1:] if match else rest
    if conditions and _CONDITION.match(conditions[0]):
        raise ValueError(f"{conditions[0]} is a condition, which this server does not know; remove the line, or the condition")
    if match is None or conditions:
        raise ValueError(f"{conditions[0]!r} is not a status such as 301; a comment begins with #")
    if int(match[1]) not in _STATUSES[dialect]:
        known = ", ".join(map(str, sorted(_STATUSES[dialect])))
        raise ValueError(f"status {match[1]} is not known in the {dialect} dialect; use one of {known}")
    if match[2] and always:
        raise ValueError("every rule of the cloudflare dialect wins over files; remove the !")
    return int(match[1]), always or bool(match[2])


def _compile_source(source: str, dialect: Dialect) -> PathPattern:
    pattern = compile_pattern(source, dialect)
    if dialect == "netlify" and "*" in source.removesuffix("/*"):
        raise ValueError(f"{source}: * stands only at the end, as a segment of its own; use :name for one segment")
    return pattern


def _kind_of(status: int) -> RedirectKind:
    if status in _REDIRECTS:
        return RedirectKind.REDIRECT
    return RedirectKind.ERROR_PAGE if status in _ERROR_PAGES else RedirectKind.REWRITE


def _check_target(target: str, kind: RedirectKind, origin: str, path: str) -> None:
    if kind is not RedirectKind.REDIRECT and not target.startswith("/"):
        raise ValueError(f"{target} is not a file of this site, and nothing is fetched from elsewhere; use a redirect (301)")
    if not origin and (not target.startswith("/") or target.startswith("//")):
        raise ValueError(f"{target} is neither a path (/...) nor an http or https URL; write one of them")
    if origin and not _AUTHORITY.fullmatch(origin.partition("://")[2]):
        raise ValueError(
            f"{origin} is not a host that is written out: no placeholders, no user, ASCII (xn--) only; write it so"
        )
    if "\\" in target or _BROKEN_ESCAPE.search(target):
        raise ValueError(f"{target} holds a backslash, or a % that two hexadecimal digits do not follow; write / or %25")
    if _DOT_SEGMENT.search(path):
        raise ValueError(f"{target} holds . or .. as a segment; write the path that it stands for")


def _split_wanted(value: str) -> tuple[str, str]:
    """Return the placeholder's name, or the literal value, of a parameter that a rule asks for."""
    match = PLACEHOLDER.fullmatch(value)
    return (match[1], "") if match else ("", unquote_plus(value))


def _split_target(part: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return literal text, encoded, and names of placeholders, in turn."""
    safe = _FRAGMENT_SAFE if part.startswith("#") else _QUERY_SAFE
    pieces = PLACEHOLDER.split(part)
    for name in pieces[1::2]:
        if name not in names:
            raise ValueError(f":{name} is no placeholder of this line; name it in from, or write %3A for a colon")
    return tuple(piece if index % 2 else quote(piece, safe=safe) for index, piece in enumerate(pieces))


def _fill(pieces: tuple[str, ...], values: Mapping[str, str], safe: str) -> str:
    if len(pieces) == 1:
        return pieces[0]
    return "".join(
        quote(values[piece], safe=safe + "/" * (piece == SPLAT), errors="replace") if index % 2 else piece
        for index, piece in enumerate(pieces)
    )


def _parse_query(query: str) -> dict[str, str]:
    """Return the parameters of a query, decoded, the first of a name; at most ``LIMIT_PARAMETERS`` are looked at."""
    given: dict[str, str] = {}
    for parameter in query.split("&", LIMIT_PARAMETERS)[:LIMIT_PARAMETERS]:
        key, _, value = parameter.partition("=")
        given.setdefault(unquote_plus(key), unquote_plus(value))
    return given


def _check_together(found: list[tuple[int, _Redirect]], dialect: Dialect, complaints: Complaints) -> None:
    tell = complaints.refuse if dialect == "cloudflare" else complaints.warn
    first: dict[object, int] = {}
    leads: dict[str, tuple[int, str]] = {}
    for number, one in found:
        line = first.setdefault((fold(one.pattern.text, dialect), one.rule.query), number)
        if line != number:
            tell(number, f"never used: line {line} has the same from; remove one of them")
        if one.has_unused_query:
            complaints.warn(number, f"the query or fragment of {one.rule.target} is not used: files have none")
        if one.pattern.key is not None and one.leads_to is not None:
            leads.setdefault(one.pattern.key, (number, fold(one.leads_to, dialect)))
    for number in _find_cycles(leads):
        tell(number, "leads back to itself over other lines: an endless loop, unless a file is there; break it")


def _find_cycles(leads: Mapping[str, tuple[int, str]]) -> Iterable[int]:
    """Yield the line at which each circle of redirects closes."""
    done: set[str] = set()
    for start in leads:
        chain: dict[str, int] = {}
        key = start
        while key in leads and key not in done:
            done.add(key)
            chain[key], key = leads[key]
        if key in chain:
            yield list(chain.values())[-1]
