"""Who waits for news of uploads, and who may not."""

import anyio
import pytest

from assetserver.errors import BusyError, OverloadedError
from assetserver.uploads import live
from assetserver.uploads.watching import GONE, News, Watcher, Watching

FIRST = News("1", "{}", is_last=False)
LAST = News("2", "{}", is_last=True)


def test_there_is_room_for_so_many_and_for_nobody_once_the_server_stops():
    watching = Watching(None, limit=1)
    watcher = watching.add("a")
    with pytest.raises(OverloadedError, match="1 clients"):
        watching.add("b")
    watching.discard(watcher)
    watching.check_room()
    watching.stop()
    with pytest.raises(BusyError):
        watching.check_room()


def test_who_is_slow_gets_what_is_so_now_and_nothing_twice():
    async def run() -> list[News | None]:
        watcher = Watcher("a", FIRST.id)
        watcher.tell(FIRST)
        with anyio.move_on_after(0.05):
            pytest.fail(f"told again: {await watcher.wait()}")
        watcher.tell(News("x", "{}", is_last=False))
        watcher.tell(LAST)
        got = [await watcher.wait()]
        watcher.tell(None)
        return [*got, await watcher.wait()]

    assert anyio.run(run) == [LAST, None]


@pytest.mark.parametrize(
    ("told", "expected"), [([LAST], [FIRST, LAST]), ([GONE], [FIRST]), ([None], [FIRST]), ([], [FIRST, None, None])]
)
def test_news_end_with_the_last_with_the_upload_with_the_server_and_with_their_time(monkeypatch, told, expected):
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.1 if not told else 20.0)
    monkeypatch.setattr(live, "LIFE_S", 0.15 if not told else 20.0)

    async def run() -> list[News | None]:
        watching = Watching(None)
        got = []
        async for news in live.follow(watching, "a", FIRST):
            got.append(news)
            for one in told:
                _tell_soon(watching, one)
        assert not watching._watchers
        return got

    def _tell_soon(watching: Watching, news: News | None) -> None:
        original = watching.add

        def add(*arguments: str) -> Watcher:
            watcher = original(*arguments)
            watcher.tell(news)
            return watcher

        watching.add = add

    assert anyio.run(run) == expected


def test_known_news_are_not_told_again():
    async def run() -> list[News | None]:
        return [news async for news in live.follow(Watching(None), "a", LAST, LAST.id)]

    assert anyio.run(run) == []
