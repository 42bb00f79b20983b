"""Cache policy: what browser and CDN may keep, and for how long, by path.

Decides the fields ``Cache-Control``, its targeted relatives and the tags for purging; a table of globs, first match wins.
Source: RFC 9111 §5.2, RFC 9213 (targeted fields), RFC 8246 (immutable), RFC 5861 (stale-while-revalidate).

Laws:
- Every answer says explicitly what may be kept: without ``Cache-Control`` caches invent a lifetime (RFC 9111 §4.2.2).
- ``s-maxage`` never stands beside ``stale-while-revalidate``: it implies ``proxy-revalidate``, which forbids serving
  stale (§5.2.2.10). What a CDN may do goes into a targeted field.
- ``immutable`` needs ``max-age`` and belongs only to names that change with their content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from .fields import LIMIT_BYTES, parse_list
from .representation import Field

IMMUTABLE = "public, max-age=31536000, immutable"
"""One year: RFC 9111's and every CDN's practical maximum."""
PAGE = "no-cache"
ASSET = "public, max-age=60, stale-while-revalidate=3600"
"""Unfingerprinted files: a change reaches everyone within an hour, a browsing visitor asks once a minute."""
REDIRECT = "public, max-age=300"
"""308 is heuristically cacheable for ever (RFC 9110 §15.1); five minutes let a mistake be mended."""
MISSING_PAGE = "no-cache"
ERROR = "no-store"
"""Also for misses of fingerprinted and asset names: during a deploy a CDN would pin the 404."""

_DIRECTIVE = re.compile(r'([a-z][a-z0-9-]*)(?:=([0-9]{1,10}|"[ !#-\[\]-~]*"))?')
_PIECE = re.compile(r"(?<![^/])\*\*/|\*\*|\[[^\]]+\]|.", re.DOTALL)
"""What a glob is made of; ``**/`` is whole folders only where a segment begins."""
_SET_MEMBER = re.compile(r"(.)-(.)|(.)", re.DOTALL)
_SECONDS = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"})
_FLAGS = frozenset(
    {
        "public",
        "private",
        "no-cache",
        "no-store",
        "no-transform",
        "must-revalidate",
        "proxy-revalidate",
        "must-understand",
        "immutable",
    }
)

_TARGETED = {
    "none": (),
    "generic": (b"cdn-cache-control",),
    "cloudflare": (b"cloudflare-cdn-cache-control",),
    "fastly": (b"surrogate-control",),
    "varnish": (b"surrogate-control",),
    "akamai": (b"cdn-cache-control",),
}
"""Field that carries a CDN's own lifetime, by profile: each is the one that the CDN's manual names."""
_TAGS = {
    "none": None,
    "generic": (b"cache-tag", ","),
    "cloudflare": (b"cache-tag", ","),
    "fastly": (b"surrogate-key", " "),
    "varnish": (b"xkey", " "),
    "akamai": (b"edge-cache-tag", ","),
}
PROFILES = tuple(_TARGETED)

_CROSSING = {"": "", "**": ".*?", "**/": "(?:.*?/)??"}
"""How a stretch of a glob may begin: nowhere else, anywhere, or at any segment."""


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """What may be kept: ``browser`` is the ``Cache-Control`` value, ``cdn`` the targeted one ("" = the same as browsers)."""

    browser: str = ASSET
    cdn: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheRule:
    """A policy for the paths that ``match``, a glob (see ``compile_glob``)."""

    match: str
    policy: CachePolicy


@dataclass(frozen=True)
class CacheTable:
    """The policy table of a folder or an app.

    ``rules``: first match wins, before the defaults. ``immutable``: globs of names with a declared fingerprint.
    ``versioned``: the whole prefix is a version (``/static/v1``), every file in it immutable. ``profile``: whose targeted
    fields to send, one of ``PROFILES``. ``prefix``: what stands before every path when rules match, such as ``docs/``.
    """

    rules: tuple[CacheRule, ...] = ()
    immutable: tuple[str, ...] = ()
    versioned: bool = False
    profile: str = "none"
    prefix: str = ""
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(f"{self.profile!r} is not a CDN profile; known are {', '.join(PROFILES)}")

    @cached_property
    def _rules(self) -> tuple[tuple[re.Pattern[str], CachePolicy], ...]:
        return tuple((compile_glob(rule.match), rule.policy) for rule in self.rules)

    @cached_property
    def _declared(self) -> tuple[re.Pattern[str], ...]:
        return tuple(compile_glob(glob) for glob in self.immutable)

    def select_policy(self, path: str, *, fingerprinted: bool = False, page: bool = False) -> CachePolicy:
        """Return the policy of ``path`` (without leading "/").

        ``fingerprinted``: the content proves the name. ``page``: the media type is HTML.
        """
        if (ruled := self.find_rule(path)) is not None:
            return ruled
        if self.versioned or fingerprinted or any(pattern.fullmatch(path) for pattern in self._declared):
            return CachePolicy(IMMUTABLE)
        return CachePolicy(PAGE if page else ASSET)

    def find_rule(self, path: str) -> CachePolicy | None:
        """Return the policy of the first rule that matches ``path`` (without leading "/"), or None."""
        return next((policy for pattern, policy in self._rules if pattern.fullmatch(self.prefix + path)), None)

    def fields_of(self, policy: CachePolicy) -> tuple[Field, ...]:
        """Return the field lines that express ``policy`` for this table's profile."""
        fields = [(b"cache-control", policy.browser.encode("latin-1"))] if policy.browser else []
        if policy.cdn:
            fields += [(name, policy.cdn.encode("latin-1")) for name in _TARGETED[self.profile]]
        tags = dict.fromkeys((*self.tags, *policy.tags))
        if tags and (carrier := _TAGS[self.profile]):
            name, separator = carrier
            fields.append((name, separator.join(tags).encode("latin-1")))
        return tuple(fields)


def compile_glob(glob: str) -> re.Pattern[str]:
    """Return the pattern of a glob over paths without leading "/".

    ``*`` and ``?`` stay inside a segment, ``**`` crosses them, ``[abc]`` is a set. A glob without "/" matches the file name in
    any folder; one with "/" matches the whole path, a leading "/" being the root.

    Raises ``ValueError`` if the glob is empty, or a set is empty, not closed or runs backwards.

    Paths are the client's to choose, so every star but the last of its kind is matched atomically, at the first place that
    fits: a later place can never do better. With plain ``.*`` a glob of three ``**/`` took seconds for a path of 4 KiB.
    """
    path = glob.lstrip("/")
    if not path:
        raise ValueError("a glob must not be empty; use ** for everything")
    stretches: list[tuple[str, list[str]]] = [("", [])]
    for piece in _PIECE.findall(path if "/" in glob else "**/" + path):
        if piece in _CROSSING:
            stretches.append((piece, []))
        else:
            stretches[-1][1].append(piece)
    *before, (crossing, pieces) = stretches
    pattern = "".join(f"(?>{_CROSSING[opener]}{_translate_stretch(others, last=False)})" for opener, others in before)
    return re.compile(pattern + _CROSSING[crossing] + _translate_stretch(pieces, last=True), re.DOTALL)


def check_cache_control(text: str, *, targeted: bool = False) -> None:
    """Raise ``ValueError``, saying what is wrong, unless ``text`` is a sound ``Cache-Control`` value.

    ``targeted``: the value is for ``CDN-Cache-Control`` and relatives, a Structured Fields dictionary: a mistake there makes
    a CDN drop the whole field (RFC 9213 §2.1).
    """
    if len(text) > LIMIT_BYTES:
        raise ValueError(f"longer than {LIMIT_BYTES} bytes")
    seen: dict[str, str | None] = {}
    for member in parse_list(text):
        match = _DIRECTIVE.fullmatch(member)
        if match is None:
            raise ValueError(f"{member!r} is not a directive; write name or name=seconds, in lower case")
        _check_directive(match[1], match[2])
        if match[1] in seen:
            raise ValueError(f"{match[1]} stands twice")
        seen[match[1]] = match[2]
    _check_combination(seen, targeted=targeted)


def _translate_stretch(pieces: list[str], *, last: bool) -> str:
    """Translate what stands between two ``**``; the ``last`` stretch ends where the path ends."""
    stops = [*(index for index, piece in enumerate(pieces) if piece == "*"), len(pieces)]
    pattern = "".join(map(_translate, pieces[: stops[0]]))
    for start, stop in pairwise(stops):
        fixed = "".join(map(_translate, pieces[start + 1 : stop]))
        pattern += f"[^/]*{fixed}" if last and stop == len(pieces) else f"(?>[^/]*?{fixed})"
    return pattern


def _translate(piece: str) -> str:
    if piece == "?":
        return "[^/]"
    if piece == "[":
        raise ValueError("a set in a glob is not closed: write [abc]")
    if piece.startswith("["):
        return _translate_set(piece[1:-1])
    return re.escape(piece)


def _translate_set(inner: str) -> str:
    negation = "^" if inner.startswith("!") else ""
    members = ""
    for low, high, single in _SET_MEMBER.findall(inner.removeprefix("!")):
        if low > high:
            raise ValueError(f"a set in a glob runs backwards: {low}-{high}")
        members += re.escape(single) if single else f"{re.escape(low)}-{re.escape(high)}"
    if not members:
        raise ValueError("a set in a glob is empty: write [abc] or [!abc]")
    return f"(?!/)[{negation}{members}]"


def _check_directive(name: str, value: str | None) -> None:
    if name in _SECONDS and (value is None or value.startswith('"')):
        raise ValueError(f"{name} needs a number of seconds: {name}=60")
    if name in _FLAGS and value is not None and not value.startswith('"'):
        raise ValueError(f"{name} takes no number")
    if name not in _SECONDS | _FLAGS:
        raise ValueError(f"{name} is not a cache directive of a response; known are {', '.join(sorted(_SECONDS | _FLAGS))}")


def _check_combination(seen: dict[str, str | None], *, targeted: bool) -> None:
    if "s-maxage" in seen and {"stale-while-revalidate", "stale-if-error"} & seen.keys():
        raise ValueError("s-maxage forbids serving stale (RFC 9111 §5.2.2.10); use max-age, and the cdn value for the CDN")
    if "s-maxage" in seen and targeted:
        raise ValueError("a targeted value takes max-age, not s-maxage")
    if "immutable" in seen and "max-age" not in seen:
        raise ValueError("immutable says nothing without max-age (RFC 8246 §2)")
