"""Who waits for news of uploads, and who may not."""

import anyio
import anyio.lowlevel
import pytest

from assetserver.access.grants import Grant
from assetserver.access.principal import Principal
from assetserver.errors import BusyError, ForbiddenError, OverloadedError
from assetserver.uploads import live
from assetserver.uploads import watching as watching_module
from assetserver.uploads.watching import GONE, LIMIT_ACCOUNT, LIMIT_EACH, News, Watcher, Watching

FIRST = News("1", "{}", is_last=False)
LAST = News("2", "{}", is_last=True)


ADA = Principal("ada", frozenset({"upload"}))


def grant_of(issuer: str, name: str) -> Principal:
    grant = Grant(id=name, issuer=issuer, expires=0.0)
    return Principal(f"grant:{name}", frozenset({"upload"}), grant=grant)


def listen(principal: Principal = ADA, check=anyio.lowlevel.checkpoint) -> live.Listener:
    return live.Listener(principal, "a", check)


def test_there_is_room_for_so_many_and_for_nobody_once_the_server_stops(monkeypatch):
    monkeypatch.setattr(watching_module, "LIMIT_WATCHERS", 1)
    watching = Watching(None)
    watcher = watching.add("a", ADA)
    with pytest.raises(OverloadedError, match="1 clients"):
        watching.add("b", Principal("bob", frozenset()))
    watching.discard(watcher)
    watching.check_room(ADA)
    watching.stop()
    with pytest.raises(BusyError):
        watching.check_room(ADA)


def test_nobody_takes_the_room_of_all_others():
    watching = Watching(None)
    own = [watching.add("a", ADA) for _ in range(LIMIT_EACH)]
    with pytest.raises(OverloadedError, match="100 clients wait for news with this token or grant"):
        watching.add("a", ADA)
    visitors = [watching.add("a", grant_of("ada", str(number))) for number in range(LIMIT_ACCOUNT - LIMIT_EACH)]
    with pytest.raises(OverloadedError, match="500 clients wait for news with this token or grant"):
        watching.add("a", grant_of("ada", "one more"))
    watching.add("a", grant_of("bob", "0"))
    for watcher in (own[0], own[0], visitors[0]):  # twice is once
        watching.discard(watcher)
    for principal in (ADA, grant_of("ada", "one more")):
        watching.add("a", principal)
        with pytest.raises(OverloadedError):
            watching.add("a", principal)


def test_who_is_slow_gets_what_is_so_now_and_nothing_twice():
    async def run() -> list[News | None]:
        watcher = Watcher("a", ADA, FIRST.id)
        watcher.tell(FIRST)
        with anyio.move_on_after(0.05):
            pytest.fail(f"told again: {await watcher.wait()}")
        watcher.tell(News("x", "{}", is_last=False))
        watcher.tell(LAST)
        got = [await watcher.wait()]
        watcher.tell(None)
        return [*got, await watcher.wait()]

    assert anyio.run(run) == [LAST, None]


@pytest.mark.parametrize(("told", "expected"), [(LAST, [FIRST, LAST]), (GONE, [FIRST]), (None, [FIRST])])
def test_news_end_with_the_last_with_the_upload_and_with_the_server(told, expected):
    async def run() -> list[News | None]:
        watching = Watching(None)
        got = []
        async for news in live.follow(watching, listen(), FIRST):
            got.append(news)
            _tell_soon(watching, told)
        assert not watching._watchers
        return got

    def _tell_soon(watching: Watching, news: News | None) -> None:
        original = watching.add

        def add(*arguments: object) -> Watcher:
            watcher = original(*arguments)
            watcher.tell(news)
            return watcher

        watching.add = add

    assert anyio.run(run) == expected


def test_signs_of_life_end_with_their_time(monkeypatch):
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(live, "LIFE_S", 1.0)

    async def run() -> list[News | None]:
        watching = Watching(None)
        got = [news async for news in live.follow(watching, listen(), FIRST)]
        assert not watching._watchers
        return got

    first, *signs = anyio.run(run)
    assert first == FIRST
    assert set(signs) == {None}
    assert 2 <= len(signs) <= 10


def test_known_news_are_not_told_again():
    async def run() -> list[News | None]:
        return [news async for news in live.follow(Watching(None), listen(), LAST, LAST.id)]

    assert anyio.run(run) == []


def test_who_may_not_listen_any_more_is_told_though_there_are_no_news(monkeypatch):
    monkeypatch.setattr(live, "LOOK_AGAIN_S", 0.01)
    looks = 0

    async def check() -> None:
        nonlocal looks
        looks += 1
        if looks > 3:
            raise ForbiddenError("no more")

    async def run() -> None:
        watching = Watching(None)
        following = live.follow(watching, listen(check=check), FIRST)
        assert await anext(following) == FIRST
        with pytest.raises(ForbiddenError, match="no more"):
            await anext(following)
        assert not watching._watchers

    anyio.run(run)
    assert looks == 4
