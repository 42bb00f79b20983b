"""Where the log goes: files that are renamed, full and forbidden, and a journal that may not keep up."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from assetserver.observe import FileSink, JournalSink, LogWriter, StreamSink, writing

from .test_accesslog import record


@pytest.fixture
def journal(tmp_path: Path):
    """A socket as the journal's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "socket"))
        one.settimeout(60)
        yield one


def read_entry(datagram: bytes) -> dict[str, str]:
    return dict(line.split("=", 1) for line in datagram.decode().removesuffix("\n").split("\n"))


def test_a_file_is_appended_to_and_made_for_its_group_alone(tmp_path):
    path = tmp_path / "access.log"
    for name in ("/1", "/2"):
        writer = LogWriter("json", FileSink(str(path)))
        writer.append(record(path=name))
        writer.close()
    assert [json.loads(line)["path"] for line in path.read_text().splitlines()] == ["/1", "/2"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0


def test_a_file_that_was_renamed_is_written_to_until_it_is_opened_anew(tmp_path):
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    writer = LogWriter("json", FileSink(str(path)))
    writer.append(record(path="/1"))
    writer.flush()
    path.rename(old)
    writer.append(record(path="/2"))
    writer.flush()
    writer.reopen()
    writer.append(record(path="/3"))
    writer.close()
    assert [json.loads(line)["path"] for line in old.read_text().splitlines()] == ["/1", "/2"]
    assert [json.loads(line)["path"] for line in path.read_text().splitlines()] == ["/3"]


def test_a_file_that_cannot_be_opened_is_told_of_once_and_tried_again(tmp_path, caplog, monkeypatch):
    folder = tmp_path / "missing"
    writer = LogWriter("json", FileSink(str(folder / "access.log")))
    for _ in range(3):
        writer.append(record())
        writer.flush()
    assert [one.getMessage() for one in caplog.records] == [
        f"access log: cannot write to {folder}/access.log: no such file or directory; records are lost until that works"
    ]
    assert writer.dropped == 3
    folder.mkdir()
    monkeypatch.setattr(writing, "AGAIN_S", 0)
    writer.append(record(path="/again"))
    writer.close()
    assert caplog.messages[1:] == [f"access log: {folder}/access.log is written to again; about 3 records were lost"]
    assert json.loads((folder / "access.log").read_text())["path"] == "/again"


def test_a_file_that_cannot_be_opened_is_told_of_before_anybody_asks(tmp_path, caplog):
    writer = LogWriter("json", FileSink(str(tmp_path)))
    writer.start()
    writer.close()
    assert "is a directory" in caplog.text


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_told_of_once_and_stops_nobody(caplog):
    writer = LogWriter("combined", FileSink("/dev/full"))
    for _ in range(100):
        writer.append(record())
    writer.close()
    assert [one.getMessage() for one in caplog.records if "no space left on device" in one.getMessage()] == caplog.messages
    assert len(caplog.messages) == 1
    assert writer.dropped == 100


def test_a_pipe_that_nobody_reads_is_no_place_to_wait(tmp_path, caplog):
    os.mkfifo(tmp_path / "pipe")
    writer = LogWriter("combined", FileSink(str(tmp_path / "pipe")))
    writer.append(record())
    writer.close()
    assert "no such device or address" in caplog.text


def test_lines_stand_whole_after_half_of_one_was_written(tmp_path, monkeypatch):
    """As on a full disk: some bytes are written, the next are refused."""
    path = tmp_path / "access.log"
    sink = FileSink(str(path))
    write, room = os.writev, 10

    def write_some(descriptor: int, pieces: Any) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(28, "No space left on device")
        done = write(descriptor, [b"".join(pieces)[:room]])
        room -= done
        return done

    monkeypatch.setattr(os, "writev", write_some)
    with pytest.raises(OSError, match="No space"):
        sink.write([b"a whole", b" line\n"])
    room = 1000
    sink.write([b"another one\n"])
    sink.write([b"and one\n", b"more\n"])
    assert path.read_text() == "a whole li\nanother one\nand one\nmore\n"


def test_lines_stand_behind_what_a_stream_was_given_before(tmp_path):
    for encoding in ("utf-8", "latin-1"):
        with open(tmp_path / encoding, "w", encoding=encoding) as stream:
            sink = StreamSink(stream)
            stream.write("ready: ")
            sink.write(["\u00e4\n".encode(), "\u4e2d\n".encode()])
            stream.write("stopped\n")
    assert (tmp_path / "utf-8").read_text("utf-8") == "ready: \u00e4\n\u4e2d\nstopped\n"
    assert (tmp_path / "latin-1").read_text("latin-1") == "ready: \u00e4\n\\u4e2d\nstopped\n"


def test_an_entry_of_the_journal_has_named_fields(journal):
    writer = LogWriter("journald", JournalSink(journal.getsockname()))
    evil = b"x\nPRIORITY=0\r\n\n\x00MESSAGE=forged"
    headers = [(b"host", b"a.test"), (b"user-agent", evil), (b"referer", b"http://b/?signature=secret")]
    writer.append(record(headers=headers))
    writer.append(record(path="/zwei", raw_path=b"/zwei", query_string=b"", method="HEAD"))
    writer.close()
    first, second = (read_entry(journal.recv(1 << 16)) for _ in range(2))
    assert first["MESSAGE"] == "GET /a%20b?x=1 200 1024"
    assert (first["PRIORITY"], first["SYSLOG_IDENTIFIER"], first["STATUS"]) == ("6", "assetserver", "200")
    assert (first["CLIENT_IP"], first["REQUEST_ID"], first["HOST"]) == ("192.0.2.7", "ab-1", "a.test")
    assert first["USER_AGENT"] == "x\\x0aPRIORITY=0\\x0d\\x0a\\x0a\\x00MESSAGE=forged"
    assert first["REFERER"] == "http://b/?signature=-"
    assert (second["PATH"], second["QUERY"]) == ("/zwei", "")


def test_a_journal_that_does_not_keep_up_costs_records_and_no_time(journal, caplog):
    writer = LogWriter("journald", JournalSink(journal.getsockname()))
    for _ in range(2000):
        writer.append(record())
    writer.close()
    kept = 0
    journal.settimeout(0)
    try:
        while True:
            journal.recv(1 << 16)
            kept += 1
    except BlockingIOError:
        pass
    assert 0 < kept < 2000
    assert writer.dropped == 2000 - kept
    assert "records dropped" in caplog.text


def test_a_journal_that_is_not_there_is_told_of_once(tmp_path, caplog):
    writer = LogWriter("journald", JournalSink(str(tmp_path / "none")))
    for _ in range(3):
        writer.append(record())
        writer.flush()
    writer.close()
    assert len(caplog.messages) == 1
    assert "cannot write to" in caplog.text


def test_an_entry_that_no_datagram_can_hold_is_dropped(journal):
    writer = LogWriter("journald", JournalSink(journal.getsockname()))
    writer.append(record(headers=[(b"referer", b"x" * (1 << 20))]))
    writer.append(record(path="/next"))
    writer.close()
    assert read_entry(journal.recv(1 << 21))["PATH"] == "/next"
    assert writer.dropped == 1
