"""Who asks, where proxies speak for others: the address, scheme and host that those who are trusted tell.

Decides whom to believe, and what; does not know how a request came, nor what is done with the answer.
Source: RFC 7239 (``Forwarded``); ``X-Forwarded-For``, ``-Proto`` and ``-Host`` have no specification, and most send them.

Laws:
- Read from the right: who stands right of an entry wrote it. The first address that is not a trusted proxy's is the client's;
  what stands left of it, anybody may have written.
- What is no address ends the walk. The client is then the last address that is known.
- The two kinds of fields are never mixed: a proxy knows one, and passes on the other as a stranger sent it.
- No input makes a function raise, and each takes time linear in what it reads.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from .fields import OWS, parse_list
from .parameters import unquote_string

Address = tuple[str, int]
"""A host as ``ipaddress`` writes it, and a port; 0 where nobody told it. As ASGI's ``client``."""

UNIX = "unix"
"""What stands among trusted proxies for those who connect over a Unix socket."""

Believed = Literal["either", "x-forwarded", "forwarded"]
"""Which fields a proxy writes. ``either``: ``Forwarded`` counts only where there is no ``X-Forwarded-For``."""

LIMIT_HOPS = 32
"""Most proxies that are looked at in a row."""

_FOR, _PROTO, _HOST, _FORWARDED = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"
OF_PROXIES = frozenset({_FOR, _PROTO, _HOST, _FORWARDED, b"x-forwarded-port", b"x-forwarded-prefix", b"x-real-ip"})
"""Fields with which proxies speak for others. Of a peer that is not trusted, they say nothing."""

_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}|_[0-9A-Za-z._-]+))?|([0-9A-Fa-f:.]+)")
"""A node (RFC 7239 §6): ``192.0.2.1``, ``192.0.2.1:80``, ``[2001:db8::1]:80``; and IPv6 bare, as X-Forwarded-For has it."""

_PAIR = re.compile(r'([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=([!#$%&\'*+.^_`|~0-9A-Za-z-]+|"(?:[^"\\]|\\.)*")')
_BETWEEN = re.compile(r"[ \t]*;[ \t]*")
_LAST_PORT = 65535
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Hop(NamedTuple):
    """What one proxy tells of who connected to it; None or "" for what it does not tell."""

    node: str = ""
    scheme: str | None = None
    host: str | None = None


class Told(NamedTuple):
    """What is believed of a request: the client, None for one on a Unix socket; its scheme and host, None for what came."""

    client: Address | None
    scheme: str | None = None
    host: str | None = None


class TrustedProxies:
    """Peers whose fields are believed: networks (RFC 4632), addresses, and ``UNIX``. Raises ``ValueError`` for what is none."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        names = tuple(networks)
        self._has_unix = UNIX in names
        self._networks = tuple(ipaddress.ip_network(name) for name in names if name != UNIX)
        self._trusts_host = lru_cache(maxsize=4096)(self._find)

    def __bool__(self) -> bool:
        """Tell whether anybody is trusted."""
        return self._has_unix or bool(self._networks)

    def trusts(self, peer: Address | None) -> bool:
        """Tell whether a peer is a trusted proxy; None is one on a Unix socket."""
        return self._has_unix if peer is None else bool(self._networks) and self._trusts_host(peer[0])

    def _find(self, host: str) -> bool:
        found = parse_node(host)
        if found is None:
            return False
        address = ipaddress.ip_address(found[0])
        return any(address in network for network in self._networks)


def parse_node(text: str) -> Address | None:
    """Return the address that a node is, None for names, ``unknown`` and what is none. IPv4 in IPv6 becomes IPv4."""
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    try:
        address = ipaddress.ip_address(match[1] or match[2] or match[4])
    except ValueError:
        return None
    if match[1] and address.version == 4:  # noqa: PLR2004 - brackets are IPv6's
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    port = int(match[3]) if match[3] and match[3][0] != "_" else 0
    return (str(mapped or address), port) if port <= _LAST_PORT else None


def parse_forwarded(text: str) -> list[Hop]:
    """Return the elements of a ``Forwarded`` value (RFC 7239 §4); one that is malformed tells nothing, an empty ``Hop``."""
    return [_parse_element(member) for member in parse_list(text)]


def _parse_element(text: str) -> Hop:
    pairs: dict[str, str] = {}
    for part in _BETWEEN.split(text):
        match = _PAIR.fullmatch(part)
        if match is None or match[1].lower() in pairs:  # none may stand twice (§4)
            return Hop()
        pairs[match[1].lower()] = unquote_string(match[2])
    return Hop(pairs.get("for", ""), pairs.get("proto"), pairs.get("host"))


def find_told(
    peer: Address | None, fields: Iterable[tuple[bytes, bytes]], proxies: TrustedProxies, believed: Believed = "either"
) -> Told:
    """Return what is known of a request that ``peer`` passed on; of one that is not trusted, no field counts.

    ``fields`` are those of the request, names in lower case, in the order in which they came.
    """
    if not proxies.trusts(peer):
        return Told(peer)
    values: dict[bytes, list[str]] = {}
    for name, value in fields:
        if name in OF_PROXIES:
            values.setdefault(name, []).append(value.decode("latin-1"))
    if believed == "forwarded" or (believed == "either" and _FOR not in values and _FORWARDED in values):
        return _read_forwarded(peer, values.get(_FORWARDED, []), proxies)
    return _read_x_forwarded(peer, values, proxies)


def find_client(
    peer: Address | None, x_forwarded_for: bytes | None, forwarded: bytes | None, proxies: TrustedProxies, believed: Believed
) -> Address | None:
    """Return the client of ``find_told``, given the only two fields that tell it; None for one that is not there."""
    fields = [(name, value) for name, value in ((_FOR, x_forwarded_for), (_FORWARDED, forwarded)) if value is not None]
    return find_told(peer, fields, proxies, believed).client


def _read_forwarded(peer: Address | None, values: list[str], proxies: TrustedProxies) -> Told:
    hops = [hop for value in values for hop in parse_forwarded(value)][-LIMIT_HOPS:]
    client, depth = _walk(peer, [hop.node for hop in hops], proxies.trusts)
    hop = hops[-max(depth, 1)] if hops else Hop()
    return Told(client, _SCHEMES.get((hop.scheme or "").lower()), hop.host)


def _read_x_forwarded(peer: Address | None, values: dict[bytes, list[str]], proxies: TrustedProxies) -> Told:
    client, depth = _walk(peer, _members(values.get(_FOR, ())), proxies.trusts)
    scheme, host = _pick(values.get(_PROTO, ()), depth), _pick(values.get(_HOST, ()), depth)
    return Told(client, _SCHEMES.get((scheme or "").lower()), host)


def _members(values: Iterable[str]) -> list[str]:
    """Return the last ``LIMIT_HOPS`` members of a list without quotation marks: split at commas, empty ones dropped."""
    parts = [part.strip(OWS) for part in ",".join(values).rsplit(",", 2 * LIMIT_HOPS)]
    return [part for part in parts if part][-LIMIT_HOPS:]


def _pick(values: Iterable[str], depth: int) -> str | None:
    """Return the entry of the proxy that is ``depth`` steps away; the leftmost one of those who tell less."""
    members = _members(values)
    return members[-min(max(depth, 1), len(members))] if members else None


def _walk(peer: Address | None, nodes: Sequence[str], trusts: Callable[[Address | None], bool]) -> tuple[Address | None, int]:
    """Return the first address from the right that is not trusted, and how many entries were believed."""
    address, depth = peer, 0
    for node in reversed(nodes):
        found = parse_node(node)
        if found is None or not trusts(address):
            break
        address, depth = found, depth + 1
    return address, depth
