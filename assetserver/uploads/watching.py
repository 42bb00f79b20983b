"""Who waits for news of uploads: one look at the records for all of them, four times a second, and only while somebody waits.

Whoever is slow gets what is so now, and nothing that was so in between: nothing piles up.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from typing import NamedTuple

import anyio

from assetserver.access.principal import Principal
from assetserver.errors import AssetServerError, BusyError, OverloadedError
from assetserver.pictures.records import PictureRecord

from .answers import encode_json
from .desk import Desk
from .records import Upload

logger = logging.getLogger(__name__)

LIMIT_WATCHERS = 1000
"""Most who may wait, per process; who comes beyond that is told to come again."""

LIMIT_EACH = 100
"""Most of them with one token, or with one grant."""

LIMIT_ACCOUNT = LIMIT_WATCHERS // 2
"""Most of them with one token and all grants that it made: a page's visitors may be many, and yet there is room for others."""

LOOK_S = 0.25


class News(NamedTuple):
    """What an upload is now: its JSON, what tells that from any other, and whether more will come. ``text`` is "" once gone."""

    id: str
    text: str
    is_last: bool


GONE = News("gone", "", is_last=True)


class Watcher:
    """Somebody who waits for news of one upload, as ``principal``. ``known``: the id of the news that they have."""

    def __init__(self, upload_id: str, principal: Principal, known: str = "") -> None:
        self.upload_id = upload_id
        self.principal = principal
        self._known = known
        self._news: News | None = None
        self._changed = anyio.Event()

    def tell(self, news: News | None) -> None:
        """Have ``wait`` return: with news, unless they are known, or None because the server stops."""
        if news is not None and news.id == self._known:
            return
        self._news = news
        self._known = news.id if news is not None else ""
        self._changed.set()

    async def wait(self) -> News | None:
        """Return the next news, or None once the server stops."""
        await self._changed.wait()
        self._changed = anyio.Event()
        return self._news


class Watching:
    """All watchers of one event loop. ``run`` looks for news until it is cancelled."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._watchers: set[Watcher] = set()
        self._counts: Counter[str] = Counter()
        """Watchers by whom: ids of tokens and grants, and "all of" a token for it and its grants."""
        self._are_some = anyio.Event()
        self._is_stopping = False

    def check_room(self, principal: Principal) -> None:
        """Raise ``OverloadedError`` if too many wait, of all or as ``principal``; ``BusyError`` once the server stops."""
        if self._is_stopping:
            raise BusyError("the server is stopping")
        if len(self._watchers) >= LIMIT_WATCHERS:
            raise OverloadedError(f"{LIMIT_WATCHERS} clients wait for news already")
        for who, limit in _shares_of(principal).items():
            if self._counts[who] >= limit:
                raise OverloadedError(f"{limit} clients wait for news with this token or grant already; close some")

    def add(self, upload_id: str, principal: Principal, known: str = "") -> Watcher:
        """Return somebody who waits from now on, until ``discard``. Raises what ``check_room`` does."""
        self.check_room(principal)
        watcher = Watcher(upload_id, principal, known)
        self._watchers.add(watcher)
        self._counts.update(_shares_of(principal).keys())
        self._are_some.set()
        return watcher

    def discard(self, watcher: Watcher) -> None:
        """Have nobody look for this one any more."""
        if watcher not in self._watchers:
            return
        self._watchers.discard(watcher)
        for who in _shares_of(watcher.principal):
            self._counts[who] -= 1
            if not self._counts[who]:
                del self._counts[who]

    def stop(self) -> None:
        """Have everybody who waits end, now and from now on."""
        self._is_stopping = True
        for watcher in self._watchers:
            watcher.tell(None)

    async def run(self) -> None:
        """Look for news, for whoever waits for some."""
        while True:
            if not self._watchers:
                self._are_some = anyio.Event()
                await self._are_some.wait()
            try:
                await self._look()
            except (AssetServerError, OSError) as error:
                logger.warning("who waits for uploads gets no news: %s", error)
            await anyio.sleep(LOOK_S)

    async def look_at(self, upload: Upload) -> News:
        """Return what an upload is now."""
        pictures = await self._desk.service.find_pictures([upload])
        return self._write(upload, pictures.get(upload.picture))

    async def _look(self) -> None:
        watchers = tuple(self._watchers)
        uploads = await self._desk.service.find_many({one.upload_id for one in watchers})
        pictures = await self._desk.service.find_pictures(uploads.values())
        news = {one.id: self._write(one, pictures.get(one.picture)) for one in uploads.values()}
        for watcher in watchers:
            watcher.tell(news.get(watcher.upload_id, GONE))

    def _write(self, upload: Upload, picture: PictureRecord | None) -> News:
        content = encode_json(self._desk.describe_one(upload, picture))
        is_last = upload.state == "failed" or (upload.state == "complete" and not _is_pending(upload, picture))
        return News(hashlib.sha256(content).hexdigest()[:16], content.decode(), is_last)


def _shares_of(principal: Principal) -> dict[str, int]:
    """Return whose watchers ``principal`` is counted among, and how many those may be."""
    return {principal.id: LIMIT_EACH, f"all of {principal.account or principal.id}": LIMIT_ACCOUNT}


def _is_pending(upload: Upload, picture: PictureRecord | None) -> bool:
    return bool(upload.picture) and (picture is None or not picture.is_settled)
