"""Fastly: surrogate keys in batches, URLs one by one, or all of a service.

Source: https://www.fastly.com/documentation/reference/api/purging/ (read 2026-11-27): ``POST /service/{id}/purge`` takes 256
keys, ``POST /purge/{url}`` one URL, ``POST /service/{id}/purge_all`` everything; ``fastly-soft-purge: 1`` marks as stale, but
for the last. A part of a service cannot be purged by its path: a whole site is the whole service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .connectors import Connector, PurgeRequest, post_json, split_url
from .orders import PurgeOrder

API = "https://api.fastly.com"


class Fastly(Connector):
    """``service`` by its id; ``token`` returns one with the scopes ``purge_select`` and ``purge_all``."""

    batch = 256

    def __init__(self, service: str, token: Callable[[], str], url: str = "", *, soft: bool = False) -> None:
        self._api = (url or API).rstrip("/")
        self._service = service
        self._token = token
        self._soft = soft

    def make_requests(self, order: PurgeOrder) -> Iterator[PurgeRequest]:
        """Return one request for all tags, one for each URL, and one for all sites."""
        service = f"{self._api}/service/{self._service}"
        whole = {"Fastly-Key": self._token(), "Accept": "application/json"}
        fields = whole | ({"Fastly-Soft-Purge": "1"} if self._soft else {})
        if order.tags:
            yield post_json(f"{service}/purge", {"surrogate_keys": order.tags}, fields)
        for url in order.urls:
            host, path = split_url(url)
            yield PurgeRequest("POST", f"{self._api}/purge/{host}{path}", fields)
        if order.roots:
            yield PurgeRequest("POST", f"{service}/purge_all", whole)
