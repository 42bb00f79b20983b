"""Cloudflare: ``POST /zones/{zone}/purge_cache``, by URL, tag, host or prefix.

Source: https://developers.cloudflare.com/cache/how-to/purge-cache/ (read 2026-11-27): 100 names a request on every plan, by
every way; too many requests are answered 429 with ``Retry-After``. Soft purges are not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .connectors import Connector, PurgeRequest, as_prefixes, post_json
from .orders import PurgeOrder

API = "https://api.cloudflare.com/client/v4"


class Cloudflare(Connector):
    """``zone`` by its id; ``token`` returns one that has the permission "Cache Purge"."""

    batch = 100

    def __init__(self, zone: str, token: Callable[[], str], url: str = "") -> None:
        self._url = f"{(url or API).rstrip('/')}/zones/{zone}/purge_cache"
        self._token = token

    def make_requests(self, order: PurgeOrder) -> Iterator[PurgeRequest]:
        """Return one request for each way of naming that the order uses."""
        prefixes = tuple(as_prefixes(order.roots))
        named = {
            "files": order.urls,
            "tags": order.tags,
            "hosts": tuple(one.rstrip("/") for one in prefixes if one.count("/") == 1),
            "prefixes": tuple(one for one in prefixes if one.count("/") > 1),
        }
        fields = {"Authorization": f"Bearer {self._token()}"}
        yield from (post_json(self._url, {way: found}, fields) for way, found in named.items() if found)
