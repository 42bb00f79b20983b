"""Connections that were ended, counted by why."""

from assetserver.metrics.board import Board
from assetserver.metrics.connections import ConnectionCounts
from assetserver.metrics.families import family


def test_time_outs_are_told_apart_by_what_was_waited_for():
    block = Board().claim()
    counts = ConnectionCounts(block)

    counts.refuse(408, is_in_body=False)
    counts.refuse(408, is_in_body=True)
    counts.refuse(408, is_in_body=True)
    counts.cut_off()

    timeouts = family("http_timeouts_total")
    assert [block.slots[timeouts.slot(phase)] for phase in ("head", "body", "send")] == [1, 2, 1]


def test_without_a_block_nothing_is_counted():
    counts = ConnectionCounts()

    counts.refuse(400, is_in_body=False)
    counts.cut_off()
