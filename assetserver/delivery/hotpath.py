"""The hot path of one connection: what was answered before is answered with one write, without a task and without ASGI.

Only between requests, and only requests that are there as a whole; a file is sent by the kernel, and nothing is read meanwhile.
All else is handed back, as it came. Knows a transport, and nothing of who serves.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any, Protocol

from starlette.types import Message

from assetserver.errors import FileChangedError
from assetserver.metrics.requests import SERVER_TIMING, TALLY
from assetserver.observe import REQUEST_ID, Describe, Peer, tell
from assetserver.semantics.ranges import ByteRange
from assetserver.semantics.representation import Field

from .claims import Claim
from .hotcache import LIMIT_BODY_BYTES, Answer, FileBody, HotCache
from .hotranges import Template, find_range, tell_range, template_key
from .leanrequest import BY_CORS, WITH_DICTIONARY, WITH_RANGE, Key, LeanReader
from .openfiles import OpenedFile
from .pages import read_now
from .repeatable import is_certain, is_repeatable
from .sendfile import FilePart, FileSender, send_at_once

SHORT_RANGE_BYTES = 16 << 10
"""Ranges up to here are read and written in one piece, longer ones sent by the kernel: 1 KiB took 7.3 µs against 9.2, 16 KiB
8.6 against 11.8, 64 KiB 24 against 13 (measured 2026-11-27)."""

PATIENCE = 8
"""How many requests in a row may be new before no more of a connection's are remembered whole."""

LIMIT_KEY_BYTES = 2 << 10
"""Answers to requests with longer targets or values are not kept."""

_END = b"\r\n\r\n"

_Asked = tuple[Describe | None, Any, int]
"""What the log tells of a request: what describes it, when it is given the next, and the number of its identifier."""

logger = logging.getLogger(__name__)


class ServerState(Protocol):
    """What of a server is looked at: the fields of all answers, renewed each second."""

    default_headers: list[Field]


class Owner(Protocol):
    """Who has the connection."""

    def is_free(self) -> bool:
        """Tell whether nothing is unfinished: no request, no answer, and nothing that the client has yet to take."""
        ...

    def data_received(self, data: bytes) -> None:
        """Take what came over the connection."""
        ...


class HotConnection:
    """Answers from ``hot`` over the connection of ``owner``.

    ``active_s`` is when it last answered; ``sender`` what the kernel is sending for it.
    """

    def __init__(self, hot: HotCache, loop: asyncio.AbstractEventLoop, state: ServerState, owner: Owner) -> None:
        self.active_s = loop.time()
        self.sender: FileSender | None = None
        self._hot = hot
        self._loop = loop
        self._clock_s = loop.time
        self._state = state
        self._owner = owner
        self._held = b""
        self._given: bytes | None = None
        self._direct: socket.socket | None = None
        self._is_closing = False

    def open(self, transport: asyncio.Transport, client: tuple[str, int] | None) -> None:
        """Begin: the connection is there. May be repeated, once it is known whose it is."""
        self._transport = transport
        self._write = transport.write
        self._peer = self._hot.writer.meet(client) if self._hot.writer is not None else _NOBODY
        self._is_proxied = self._hot.proxies.trusted.trusts(client)
        self._reader = LeanReader(self._hot.proxied_shapes if self._is_proxied else self._hot.shapes)
        self._patience = 0 if self._is_proxied else PATIENCE  # a proxy sends no two requests of the same bytes

    def answer(self, data: bytes) -> bool:
        """Answer a request that was answered before, or one like it; return whether it was. To be called while free."""
        hot, reader = self._hot, self._reader
        if self._patience:
            known = hot.find_request(data)
            if known is not None:
                self._patience = PATIENCE
                return self._repeat(known.answer, None, known.asked)
        key = reader.read(data)
        if key is None:
            return False
        answer = hot.find(key, reader) or hot.find_alike(key, reader)
        if self._is_proxied:
            self._given = reader.value(REQUEST_ID)
        if answer is None:
            return len(key) >= WITH_RANGE and self._answer_part(key)
        if self._patience:
            self._patience -= 1
            hot.admit_request(data, answer, reader)
        return self._repeat(answer, reader.shape.describe, reader.match)

    def _answer_part(self, key: Key) -> bool:
        """Answer a request for another range of a file of which one was sent before; return whether it was."""
        template = self._hot.find_file(template_key(key))
        found = find_range(template, key) if isinstance(template, Template) else None
        if not isinstance(template, Template) or found is None:
            return False
        if len(found) <= SHORT_RANGE_BYTES and self._repeat_short_range(template, found, key):
            return True
        return self._repeat_long_range(template, found, key)

    def answer_several(self, data: bytes) -> bytes:
        """Answer the requests at the beginning of ``data`` that are hot; return what is left for the slow path now.

        What comes behind a file that is being sent is held back, and received by the owner after it.
        """
        start = 0
        while self._owner.is_free() and (end := data.find(_END, start)) >= 0:
            if not self.answer(data[start : end + 4]):
                break
            start = end + 4
        if self.sender is not None:
            self._held = data[start:]
            return b""
        return data[start:]

    def _repeat(self, answer: Answer, describe: Describe | None, asked: Any) -> bool:
        hot = self._hot
        if answer.file is not None:
            head = hot.render(answer, self._state.default_headers, self._given)
            return self._send_file(answer, answer.file, head, describe, asked)
        if answer.body is answer.short_body:
            self._write(hot.render(answer, self._state.default_headers, self._given))
        else:
            self._transport.writelines((hot.render(answer, self._state.default_headers, self._given), answer.body))
        now_s = self.active_s = self._clock_s()
        if (writer := hot.writer) is not None:
            asked = asked if describe is None else describe(asked)
            writer.entries.append((now_s, self._peer, answer.told, asked, answer.number))
            if len(writer.entries) >= writer.turn_lines:
                writer.take_turn()
        return True

    def keep(self, claim: Claim, data: bytes, start: Message, body: bytes, file: FileBody | None, line: bytes) -> None:
        """Let an answer of the slow path be repeated, if its request, ``data``, is one that the hot path could have read.

        ``start`` is the message that began it, ``line`` its status line; its content is ``body``, or ``file``.
        """
        is_head = data.startswith(b"HEAD")
        length = file.length if file else len(body)
        if not is_repeatable(start["status"], start["headers"], length, head=is_head) or len(body) > LIMIT_BODY_BYTES:
            return
        key = self._reader.read(data, learns=False)
        if key is None or not is_certain(key) or sum(len(part) for part in key if part) > LIMIT_KEY_BYTES:
            return
        fields, tally = [field for field in start["headers"] if field[0] != REQUEST_ID], start.get(TALLY)
        renewed = _REPEATED if file is None else _SENT_AGAIN
        fields = [renewed.get(name, (name, value)) for name, value in fields]
        varies = any(name == b"vary" and value.lower() == b"accept" for name, value in fields)
        if start["status"] == _PARTIAL and file is not None and not is_head:
            if not varies:  # a template is for all values of Accept
                self._hot.admit(template_key(key), Template(claim, line, fields, file, tally))
            return
        is_delta = (b"content-encoding", b"dcz") in fields
        if not _fits(key, fields, is_delta=is_delta):
            return
        content, file = (b"", None) if is_head else (bytes(body), file)
        answer, accept = Answer(claim, start["status"], line, fields, content, file, tally), self._reader.value(b"accept")
        if not self._hot.admit_alike(key, answer, accept):
            is_any = len(key) == WITH_DICTIONARY and not is_delta
            self._hot.admit(key, answer, accept, varies=varies, is_any=is_any)

    # Files

    def _repeat_short_range(self, template: Template, found: ByteRange, key: Key) -> bool:
        """Answer with a range that is in the kernel's memory, and keep it if it is asked for again; return whether it was."""
        hot, claim = self._hot, template.claim
        opened = template.file.find(self._clock_s()) if template.file else None
        content = read_now(opened.descriptor, found.start, len(found)) if opened else None
        if opened is None or content is None or claim is None or not opened.is_same():
            return False
        if hot.comes_again(key):
            answer = template.cut(claim, found, content)
            hot.admit(key, answer)
            return self._repeat(answer, self._reader.shape.describe, self._reader.match)
        self._write(tell_range(found, hot.render(template, self._state.default_headers, self._given)) + content)
        self._note_sent(template, len(content), (self._reader.shape.describe, self._reader.match, template.number))
        return True

    def _repeat_long_range(self, template: Template, found: ByteRange, key: Key) -> bool:
        """Have the kernel send a range, and keep its answer if it is asked for again; return whether that was possible."""
        hot, reader, claim, file = self._hot, self._reader, template.claim, template.file
        if claim is None or file is None:
            return False
        if hot.comes_again(key):
            answer = template.cut(claim, found)
            hot.admit(key, answer)
            return self._repeat(answer, reader.shape.describe, reader.match)
        head = tell_range(found, hot.render(template, self._state.default_headers, self._given))
        part = FileBody(file.find, found.start, len(found))
        return self._send_file(template, part, head, reader.shape.describe, reader.match)

    def _send_file(self, answer: Answer, file: FileBody, head: bytes, describe: Describe | None, asked: Any) -> bool:
        """Send ``head`` and what of a file is its content; return whether that was possible. The rest is for the log."""
        transport, now_s = self._transport, self._clock_s()
        if transport.get_write_buffer_size() or transport.is_closing() or (opened := file.find(now_s)) is None:
            answer.number -= 1  # it was not sent
            return False
        connection, noted = self._direct or self._open_direct(), (describe, asked, answer.number)
        try:
            sent = connection.send(head, _MORE)
        except OSError:  # nothing was sent: the slow path finds out why
            answer.number -= 1  # it was not sent
            return False
        if sent < len(head):
            transport.abort()
            return True
        sent = send_at_once(connection.fileno(), opened, file.offset, file.length, now_s)
        if sent == file.length:
            self._end_at_once(opened, file, answer, noted)
            return True
        part = FilePart(opened.descriptor, file.offset, file.length, opened.check, opened)
        sender = self.sender = FileSender(self._loop, connection.fileno(), part, sent)
        sender.start(lambda: self._end_file(sender, answer, noted), is_checked=not sent)
        if self.sender is not None:
            transport.pause_reading()  # what comes next waits its turn
        return True

    def _end_at_once(self, opened: OpenedFile, file: FileBody, answer: Answer, asked: _Asked) -> None:
        """End an answer whose content went out in one piece; it stands if the file is still the one that was meant."""
        self._note_sent(answer, file.length, asked)
        try:
            opened.check(file.offset + file.length)
        except FileChangedError as error:
            logger.warning("%s", error)
            self._transport.abort()

    def _note_sent(self, answer: Answer, sent: int, asked: _Asked) -> None:
        self.active_s = self._clock_s()
        self._hot.count_bytes(answer, sent)
        if (writer := self._hot.writer) is not None:
            told = answer.told if sent == answer.told.sent else tell(answer.status, sent, answer.told.fields)
            describe, match, number = asked
            writer.entries.append((self.active_s, self._peer, told, match if describe is None else describe(match), number))
            if len(writer.entries) >= writer.turn_lines:
                writer.take_turn()

    def _end_file(self, sender: FileSender, answer: Answer, asked: _Asked) -> None:
        """Go on after a file was sent, or could not be."""
        self.sender = None
        self._note_sent(answer, sender.sent, asked)
        if sender.error is not None:
            logger.warning("%s", sender.error)
        if sender.error is not None or sender.left:
            self._transport.abort()
        elif self._is_closing:
            self._transport.close()
        elif not self._transport.is_reading():
            self._transport.resume_reading()
            held, self._held = self._held, b""
            if held:
                self._owner.data_received(held)

    def _open_direct(self) -> socket.socket:
        """Return the connection as a socket to write to past the transport. It owns nothing: ``end`` must come."""
        known = self._transport.get_extra_info("socket")
        self._direct = socket.socket(known.family, known.type, known.proto, fileno=known.fileno())
        return self._direct

    def close(self) -> None:
        """Close the connection after what is being sent."""
        self._is_closing = True

    def end(self) -> None:
        """End: the connection is lost."""
        if self.sender is not None:
            self.sender.stop()
        if self._direct is not None:
            self._direct.detach()


def _fits(key: Key, fields: list[Field], *, is_delta: bool) -> bool:
    """Tell whether an answer is that of all requests with ``key``: what is read here as one may have been read otherwise."""
    if len(key) != WITH_DICTIONARY:
        return not is_delta
    return not (key[-1] or b"").startswith(BY_CORS) or (b"access-control-allow-origin", b"*") in fields


_NOBODY = Peer(None, b"")
"""Whose connection it is where nobody logs it."""

_PARTIAL = 206
_MORE = socket.MSG_MORE

_SENT_AGAIN = {SERVER_TIMING: (SERVER_TIMING, b"cache;desc=hot")}
_REPEATED = {b"cache-status": (b"cache-status", b"assetserver; hit"), **_SENT_AGAIN}
"""What an answer says that comes from memory, whatever it said when it was made."""
