"""Varnish, with the VCL of ``docs/behind-varnish.md``: ``PURGE`` for a URL or for tags, ``BAN`` for all below a path.

Varnish has no API of its own for this: what its methods do is what the VCL says. Tags travel in ``xkey-purge``, as vmod_xkey's
manual has them (or ``xkey-softpurge``), separated by spaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .connectors import Connector, PurgeRequest, split_url
from .orders import PurgeOrder


class Varnish(Connector):
    """The Varnish that listens at ``url``. It is asked as its visitors ask it: their ``Host``, their path.

    ``token`` returns what is sent as ``X-Purge-Token``, "" for nothing, where the VCL asks for more than an address.
    """

    batch = 100

    def __init__(self, url: str, token: Callable[[], str], *, soft: bool = False) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._soft = soft

    def make_requests(self, order: PurgeOrder) -> Iterator[PurgeRequest]:
        """Return one request for all tags, and one for each URL and site."""
        token = self._token()
        own = {"X-Purge-Token": token} if token else {}
        if order.tags:
            name = "xkey-softpurge" if self._soft else "xkey-purge"
            yield PurgeRequest("PURGE", self._url + "/", {name: " ".join(order.tags), **own})
        soft = {"X-Purge-Soft": "1"} if self._soft else {}
        for url in order.urls:
            host, path = split_url(url)
            yield PurgeRequest("PURGE", self._url + path, {"Host": host, **soft, **own})
        for root in order.roots:
            host, path = split_url(root)
            yield PurgeRequest("BAN", self._url + path, {"Host": host, **own})
