"""News of an upload: server-sent events and a WebSocket, of a real server, by real clients."""

from __future__ import annotations

import io
import json
import socket
import threading
from urllib.parse import urlsplit

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, RejectConnection, RejectData, Request, TextMessage

from .galleries import LIMIT_S, Gallery, draw, write

_opened: list[socket.socket | io.BufferedReader] = []


@pytest.fixture(autouse=True)
def _closed():
    """Close what a test has opened, files before their sockets."""
    yield
    while _opened:
        _opened.pop().close()


def connect(gallery: Gallery) -> socket.socket:
    parts = urlsplit(gallery.url)
    _opened.append(socket.create_connection((parts.hostname, parts.port), LIMIT_S))
    return _opened[-1]


class Stream:
    """A stream of server-sent events, read as it comes."""

    def __init__(self, gallery: Gallery, upload_id: str, last: str = "", method: str = "GET", token: str = "") -> None:
        self._socket = connect(gallery)
        fields = f"Host: a\r\nAuthorization: Bearer {token or gallery.token}\r\nConnection: close\r\n"
        fields += f"Last-Event-ID: {last}\r\n" if last else ""
        self._socket.sendall(f"{method} /uploads/{upload_id}/events HTTP/1.0\r\n{fields}\r\n".encode())
        self._file = self._socket.makefile("rb")
        _opened.append(self._file)
        self.status = int(self._file.readline().split()[1])
        self.fields = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            self.fields[name.lower()] = value

    def __iter__(self):
        """Yield (id or name, data) of each event, to the end."""
        event_id = ""
        for line in self._file:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name in ("id", "event"):
                event_id = value
            elif name == "data":
                yield event_id, json.loads(value)


class Live:
    """A WebSocket; ``told`` are the messages, ``code`` is how it was closed, ``status`` how it was refused."""

    def __init__(self, gallery: Gallery, target: str, fields: dict[str, str] | None = None) -> None:
        self._socket = connect(gallery)
        self._wire = WSConnection(ConnectionType.CLIENT)
        sent = {"Authorization": f"Bearer {gallery.token}"} if fields is None else fields
        extra = [(name.encode(), value.encode()) for name, value in sent.items()]
        self._socket.sendall(self._wire.send(Request(host="a", target=target, extra_headers=extra)))
        self.told: list[dict[str, object]] = []
        self.is_open = False
        self.code = self.status = 0
        self.reason: str | None = ""
        self.refusal = b""

    def read(self, *, until_open: bool = False) -> None:
        """Read to the end, or until the connection is open."""
        while not (until_open and self.is_open) and (data := self._socket.recv(65536)):
            self._wire.receive_data(data)
            for event in self._wire.events():
                self._take(event)
                if isinstance(event, RejectData) and event.body_finished:
                    return
        if not until_open:
            self._socket.close()

    def _take(self, event: object) -> None:
        if isinstance(event, AcceptConnection):
            self.is_open = True
        elif isinstance(event, TextMessage):
            self.told.append(json.loads(event.data))
        elif isinstance(event, CloseConnection):
            self.code, self.reason = event.code, event.reason
            self._socket.sendall(self._wire.send(event.response()))
        elif isinstance(event, RejectConnection):
            self.status = event.status_code
        elif isinstance(event, RejectData):
            self.refusal += event.data


def test_events_tell_all_states_to_the_end_and_then_ask_for_no_more(gallery):
    upload = gallery.upload(write(draw(900, 700, 20)))
    stream = Stream(gallery, upload["id"])
    assert (stream.status, stream.fields["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert stream.fields["cache-control"] == "no-store"
    events = list(stream)
    states = [data["image"]["state"] for _, data in events]
    assert states == sorted(states, key=["queued", "processing", "ready"].index)
    assert events[-1][1] == gallery.look(upload["id"])
    assert events[-1][1]["image"]["pending"] == []
    assert len({event_id for event_id, _ in events}) == len(events)
    assert Stream(gallery, upload["id"], events[-1][0]).status == 204
    assert [data for _, data in Stream(gallery, upload["id"], "another")] == [events[-1][1]]
    assert Stream(gallery, upload["id"], method="HEAD").status == 200


def test_a_websocket_tells_the_same_and_closes(gallery):
    upload = gallery.upload(write(draw(900, 700, 21)))
    live = Live(gallery, f"/uploads/{upload['id']}/live")
    live.read()
    assert live.told[-1] == gallery.look(upload["id"])
    assert live.told[-1]["image"]["state"] == "ready"
    assert live.code == 1000


def test_what_is_no_picture_is_over_at_once(gallery):
    upload = gallery.upload(b"text", "a.txt")
    assert [data for _, data in Stream(gallery, upload["id"])] == [gallery.look(upload["id"])]


def test_an_upload_that_is_removed_ends_its_news(gallery):
    parts = {"Tus-Resumable": "1.0.0", "Upload-Length": "10"}
    status, fields, _ = gallery.ask("POST", "/uploads", **{name.replace("-", "_"): value for name, value in parts.items()})
    assert status == 201
    upload_id = fields["location"].rpartition("/")[2]
    stream = Stream(gallery, upload_id)
    live = Live(gallery, f"/uploads/{upload_id}/live")
    live.read(until_open=True)
    events = iter(stream)
    assert next(events)[1]["state"] == "uploading"
    assert gallery.ask("DELETE", f"/uploads/{upload_id}", tus_resumable="1.0.0")[0] == 204
    assert list(events) == []
    live.read()
    assert live.code == 1001


def test_a_revoked_token_ends_what_it_listens_to_with_the_reason(gallery):
    token = gallery.run("token", "create", "--scope", "read").strip()
    upload_id = gallery.ask("POST", "/uploads", tus_resumable="1.0.0", upload_length="10")[1]["location"].rpartition("/")[2]
    stream, lasting = Stream(gallery, upload_id, token=token), Stream(gallery, upload_id)
    live = Live(gallery, f"/uploads/{upload_id}/live", {"Authorization": f"Bearer {token}"})
    live.read(until_open=True)
    events = iter(stream)
    assert next(events)[1]["state"] == "uploading"
    gallery.run("token", "revoke", token.split("_")[1])
    fields = {"tus_resumable": "1.0.0", "upload_offset": "0", "content_type": "application/offset+octet-stream"}
    gallery.ask("PATCH", f"/uploads/{upload_id}", b"01234", **fields)
    assert list(events) == [("refused", {"status": 401, "detail": "the token was revoked"})]
    live.read()
    assert (live.code, live.reason) == (1008, "the token was revoked")
    assert [one["offset"] for one in live.told] == [0]
    told = iter(lasting)
    assert [next(told)[1]["offset"] for _ in range(2)] == [0, 5]


def test_progress_of_an_upload_is_told(gallery):
    fields = {"tus_resumable": "1.0.0", "upload_length": "10", "content_type": "application/offset+octet-stream"}
    upload_id = gallery.ask("POST", "/uploads", **fields | {"content_type": ""})[1]["location"].rpartition("/")[2]
    events = iter(Stream(gallery, upload_id))
    assert next(events)[1]["offset"] == 0
    gallery.ask("PATCH", f"/uploads/{upload_id}", b"01234", upload_offset="0", **fields)
    assert next(events)[1]["offset"] == 5
    gallery.ask("PATCH", f"/uploads/{upload_id}", b"56789", upload_offset="5", **fields)
    states = [data["state"] for _, data in events]
    assert states[-1] == "complete"
    assert set(states[:-1]) <= {"uploading"}, "its last bytes may be seen before it is complete"


@pytest.mark.parametrize(
    ("fields", "target", "status", "problem"),
    [
        ({}, "/uploads/{}/live", 401, "unauthorised"),
        ({"Authorization": "Bearer ast_x"}, "/uploads/{}/live", 401, "unauthorised"),
        (None, "/uploads/aaaaaaaaaaaaaaaaaaaaaaaa/live", 404, "upload-missing"),
    ],
)
def test_a_websocket_is_refused_as_the_upload_would_be(gallery, fields, target, status, problem):
    upload = gallery.upload(b"text", "a.txt")
    live = Live(gallery, target.format(upload["id"]), fields)
    live.read()
    assert (live.status, json.loads(live.refusal)["type"]) == (status, f"urn:assetserver:problem:{problem}")


def test_pages_of_other_origins_may_not_listen_where_they_may_not_upload(open_gallery):
    gallery = open_gallery(UPLOADS__ORIGINS="https://good.example")
    upload = gallery.upload(b"text", "a.txt")
    for origin, is_let_in in (("https://good.example", True), ("http://a", True), ("https://evil.example", False)):
        live = Live(gallery, f"/uploads/{upload['id']}/live", {"Authorization": f"Bearer {gallery.token}", "Origin": origin})
        live.read()
        assert (live.code == 1000, live.status == 403) == (is_let_in, not is_let_in)


def test_elsewhere_a_websocket_is_what_it_would_be_without(gallery):
    with connect(gallery) as wire:
        asked = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        wire.sendall(f"{asked}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        assert wire.recv(65536).startswith(b"HTTP/1.1 404 ")


def test_a_stop_ends_all_who_wait_and_waits_for_none(open_gallery):
    gallery = open_gallery()
    fields = {"tus_resumable": "1.0.0", "upload_length": "10"}
    upload_id = gallery.ask("POST", "/uploads", **fields)[1]["location"].rpartition("/")[2]
    streams = [Stream(gallery, upload_id) for _ in range(3)]
    lives = [Live(gallery, f"/uploads/{upload_id}/live") for _ in range(3)]
    for live in lives:
        live.read(until_open=True)
    ended = []
    threads = [threading.Thread(target=lambda one=one: ended.append(len(list(one)))) for one in streams]
    for thread in threads:
        thread.start()
    assert gallery.stop() == 0
    assert "timeout graceful shutdown exceeded" not in gallery.read_log()
    for thread in threads:
        thread.join(LIMIT_S)
    assert ended == [1, 1, 1]


def test_connections_that_became_websockets_are_counted_until_they_end(open_gallery):
    gallery = open_gallery(SERVER__CONNECTION_LIMIT="3")
    upload_id = gallery.ask("POST", "/uploads", tus_resumable="1.0.0", upload_length="10")[1]["location"].rpartition("/")[2]
    for _ in range(8):
        live = Live(gallery, f"/uploads/{upload_id}/live")
        live.read(until_open=True)
        assert live.is_open
        live._socket.close()
        gallery.wait(lambda: gallery.ask("GET", "/-/healthy")[0] == 200)
