"""The mark that changes when something does."""

from __future__ import annotations

import multiprocessing

from assetserver.storage.marks import ChangeMark


def test_a_mark_stands_until_it_is_moved(tmp_path):
    path = str(tmp_path / "media" / "changes")
    mark = ChangeMark(path)
    first = mark.read()
    assert first == b""
    mark.move()
    second = mark.read()
    assert second == mark.read() != first
    mark.move()
    assert mark.read() != second
    mark.close()
    assert mark.read() not in (first, second)
    mark.close()


def test_a_mark_that_was_read_before_it_ever_moved_is_seen_to_move(tmp_path):
    mark, other = ChangeMark(str(tmp_path / "changes")), ChangeMark(str(tmp_path / "changes"))
    before = mark.read()
    assert mark.read() == before
    other.move()
    assert mark.read() == other.read() != before


def test_a_mark_that_nobody_could_make_says_nothing(tmp_path):
    mark = ChangeMark(str(tmp_path / "missing" / "changes"))
    assert mark.read() == b""
    ChangeMark(mark.path).move()
    assert mark.read() != b""


def test_every_process_sees_it_move(tmp_path):
    path = str(tmp_path / "changes")
    mark = ChangeMark(path)
    mark.move()
    before = mark.read()
    process = multiprocessing.get_context("spawn").Process(target=ChangeMark(path).move)
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert mark.read() != before
    mark.close()
