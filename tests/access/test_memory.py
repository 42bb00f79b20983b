"""Tokens that are known: how long they are trusted, and what ends that."""

from __future__ import annotations

from assetserver.access.memory import TRUST_S, TokenMemory
from assetserver.access.tokens import issue_token

NOW = 1_800_000_000.0


class Bench:
    """A memory, with a clock and a mark that the test moves."""

    def __init__(self):
        self.now, self.mark, self.error = 0.0, b"first", None
        self.records = {}
        self.memory = TokenMemory(self.read, lambda: self.now)

    def read(self):
        if self.error is not None:
            raise self.error
        return self.mark

    def issue(self):
        token, record = issue_token(["upload"], now=NOW)
        self.records[token.id] = record
        return token.id

    def look_up(self, token_id):
        return self.memory.look_up(token_id, self.records.get)


def test_what_was_looked_up_is_trusted_for_a_while():
    bench = Bench()
    token_id = bench.issue()
    assert bench.memory.recall(token_id) is None
    assert bench.look_up(token_id) is bench.records[token_id]
    bench.now = TRUST_S - 0.01
    assert bench.memory.recall(token_id) is bench.records[token_id]
    bench.now = TRUST_S
    assert bench.memory.recall(token_id) is None


def test_nothing_is_trusted_once_the_mark_moved():
    bench = Bench()
    token_id = bench.issue()
    bench.look_up(token_id)
    bench.mark = b"second"
    assert bench.memory.recall(token_id) is None
    bench.look_up(token_id)
    assert bench.memory.recall(token_id) is not None


def test_a_mark_that_moves_during_the_look_up_counts_as_moved():
    bench = Bench()
    token_id = bench.issue()

    def find(wanted):
        bench.mark = b"moved"
        return bench.records[wanted]

    bench.memory.look_up(token_id, find)
    assert bench.memory.recall(token_id) is None


def test_nothing_is_trusted_where_the_mark_cannot_be_read():
    bench = Bench()
    token_id = bench.issue()
    bench.look_up(token_id)
    bench.error = PermissionError(13, "Permission denied")
    assert bench.memory.recall(token_id) is None
    assert bench.look_up(token_id) is bench.records[token_id]
    bench.error = None
    assert bench.memory.recall(token_id) is not None


def test_what_is_not_there_is_not_kept_and_what_is_kept_is_bounded():
    bench = Bench()
    assert bench.look_up("made-up") is None
    ids = [bench.issue() for _ in range(1500)]
    for token_id in ids:
        bench.look_up(token_id)
    assert bench.memory.recall("made-up") is None
    known = [token_id for token_id in ids if bench.memory.recall(token_id) is not None]
    assert 0 < len(known) <= 1000
    assert known[-1] == ids[-1]
