"""A client that died leaves its request behind: a new HEAD, PATCH or DELETE makes it give way, in whichever worker."""

import http.client
import threading
import time
from contextlib import ExitStack, closing, suppress
from urllib.parse import urlsplit

import pytest

from assetserver.uploads.turns import PATIENCE_S

from .conftest import UPLOAD_TYPE, wait_staged

LIMIT_S = 60.0
MIB = 1 << 20
CONTENT = bytes(range(256)) * 8192


@pytest.fixture(scope="module", params=[1, 3], ids=["one worker", "three workers"])
def shared(start_uploads, request):
    """Servers of one and of several worker processes: which of them answers is chance."""
    return start_uploads("", "--workers", request.param)


@pytest.fixture
def client(shared):
    return shared.tus


@pytest.fixture
def stalled(client, shared):
    """``stalled()`` returns an upload to which a client writes that has sent 1 MiB and will neither send more nor hang up."""
    with ExitStack() as stack:

        def begin():
            url = client.create(len(CONTENT))
            fields = {"upload_offset": 0, "content_type": UPLOAD_TYPE, "expect": "100-continue"}
            connection = stack.enter_context(client.begin("PATCH", url, len(CONTENT), **fields))
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 100 ")  # somebody waits for the body
            connection.sendall(CONTENT[:MIB])
            wait_staged(shared.data, url, MIB)
            return url, connection

        yield begin


@pytest.mark.parametrize("_", range(4))
def test_head_gets_an_offset_that_the_next_patch_may_use(client, stalled, _):
    url, _connection = stalled()

    offset = client.offset(url)

    assert offset == MIB
    assert client.append(url, offset, CONTENT[offset:]).status == 204
    assert client.download(url) == CONTENT


@pytest.mark.parametrize("_", range(4))
def test_patch_goes_on_where_the_other_was(client, stalled, _):
    url, _connection = stalled()

    reply = client.append(url, MIB, CONTENT[MIB:])

    assert reply.status == 204
    assert client.download(url) == CONTENT


@pytest.mark.parametrize("_", range(4))
def test_patch_at_a_stale_offset_is_told_the_real_one(client, stalled, _):
    url, _connection = stalled()

    reply = client.append(url, 0, CONTENT)

    assert (reply.status, reply["upload-offset"]) == (409, str(MIB))
    assert client.append(url, MIB, CONTENT[MIB:]).status == 204
    assert client.download(url) == CONTENT


@pytest.mark.parametrize("_", range(4))
def test_delete_ends_the_upload_and_the_request(client, stalled, _):
    url, connection = stalled()

    assert client.ask("DELETE", url).status == 204
    assert client.ask("HEAD", url).status == 410
    answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer[:12] == b"" or not answer.startswith(b"HTTP/1.1 2")


def test_who_gave_way_cannot_write_any_more(client, stalled):
    url, connection = stalled()
    assert client.offset(url) == MIB

    with suppress(OSError):  # what is sent to a connection that was closed
        for _ in range(16):
            connection.sendall(b"\xff" * (64 << 10))
            time.sleep(0.01)
    assert client.append(url, MIB, CONTENT[MIB:]).status == 204
    assert client.download(url) == CONTENT


def test_many_writers_at_once_never_mix_their_bytes(client):
    """Each sends the same bytes from wherever the upload is: whatever wins, what comes out is them."""
    url = client.create(len(CONTENT))

    def write(_):
        for _attempt in range(50):
            seen = client.ask("HEAD", url)
            if seen.status == 200:
                offset = int(seen["upload-offset"])
                if offset == len(CONTENT):
                    return
                step = CONTENT[offset : offset + 300_000]
                reply = client.append(url, offset, step)
                assert reply.status in (204, 409, 423, 503), reply

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert client.download(url) == CONTENT


def test_nobody_else_waits_while_somebody_gives_way(client, stalled, shared):
    url, _connection = stalled()
    slowest_s = 0.0
    stop = threading.Event()

    def watch():
        nonlocal slowest_s
        parts = urlsplit(shared.url)
        with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=LIMIT_S)) as connection:
            while not stop.is_set():
                begun_s = time.monotonic()
                connection.request("GET", "/-/healthy")
                connection.getresponse().read()
                slowest_s = max(slowest_s, time.monotonic() - begun_s)

    watcher = threading.Thread(target=watch)
    watcher.start()
    client.append(url, MIB, CONTENT[MIB:])
    stop.set()
    watcher.join(LIMIT_S)

    assert slowest_s < PATIENCE_S, "as long as the one that came has to wait at most"
