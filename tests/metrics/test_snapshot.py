"""What a server told, read again: what is written is what is read."""

from assetserver.metrics.board import Board
from assetserver.metrics.exposition import render
from assetserver.metrics.families import family
from assetserver.metrics.snapshot import Rates, parse_snapshot

REQUESTS = family("http_requests_total")


def told(at_s: float, **counts: int):
    board = Board()
    block = board.claim()
    for code, count in counts.items():
        block.add(REQUESTS.slot("GET", code.strip("_"), "site"), count)
    return parse_snapshot(render(board, "1.0"), at_s)


def test_what_is_rendered_is_read():
    snapshot = told(0.0, _200=5, _404=2)

    assert snapshot.total("http_requests_total") == 7
    assert snapshot.total("http_requests_total", code="404") == 2
    assert snapshot.by("http_requests_total", "code") == {"200": 5, "404": 2}
    assert snapshot.total("nothing") == 0
    assert snapshot.total("process_resident_memory_bytes") > 0


def test_rates_are_per_second():
    rates = Rates(told(10.0, _200=5), told(12.0, _200=9, _404=1))

    assert rates.total("http_requests_total") == 2.5
    assert rates.by("http_requests_total", "code") == {"200": 2.0, "404": 0.5}


def test_server_that_was_started_anew_counts_from_nothing():
    rates = Rates(told(0.0, _200=500), told(1.0, _200=3))

    assert rates.total("http_requests_total") == 3
    assert rates.by("http_requests_total", "code") == {"200": 3}


def test_text_of_others_is_left_out():
    assert parse_snapshot('# x\nodd line\nname{a="b"} many\nup 1\n', 0).series == {"up": {(): 1.0}}
