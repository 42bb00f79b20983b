"""The text that Prometheus reads, by Prometheus's own parser."""

import os
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families

from assetserver.metrics.board import Board
from assetserver.metrics.exposition import Sample, render
from assetserver.metrics.families import FAMILIES, SLOTS, family
from assetserver.metrics.requests import RequestCounts


def parse(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return value by labels, by name of sample; each stands once."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for one in text_string_to_metric_families(text):
        for sample in one.samples:
            series = found.setdefault(sample.name, {})
            assert tuple(sample.labels.items()) not in series
            series[tuple(sample.labels.items())] = sample.value
    return found


def board_of(numbers: Iterator[int]) -> Board:
    board = Board()
    block = board.claim()
    for slot, number in enumerate(numbers):
        block.slots[slot] = number
    return board


def test_everything_that_is_counted_is_told_once_with_type_and_help():
    text = render(board_of(iter([1] * SLOTS)), "1.2.3")

    families = {one.name: one for one in text_string_to_metric_families(text)}
    for known in FAMILIES.values():
        told = families[known.name.removesuffix("_total")]
        assert (told.type, told.documentation) == (known.kind, known.text)
    assert parse(text)["assetserver_build_info"][(("version", "1.2.3"), ("python", os.sys.version.split()[0]))] == 1


def test_buckets_are_cumulative_and_end_with_all():
    board = Board()
    block, lag = board.claim(), family("event_loop_lag_seconds")
    for seconds in (0.0001, 0.001, 0.002, 99.0):
        block.observe(lag, lag.first, seconds)

    found = parse(render(board, ""))

    buckets = {labels[0][1]: value for labels, value in found["assetserver_event_loop_lag_seconds_bucket"].items()}
    assert (buckets["0.0005"], buckets["0.001"], buckets["0.0025"], buckets["2.5"], buckets["+Inf"]) == (1, 2, 3, 3, 4)
    assert found["assetserver_event_loop_lag_seconds_count"][()] == 4
    assert abs(found["assetserver_event_loop_lag_seconds_sum"][()] - 99.0031) < 1e-9


def test_series_that_never_counted_are_left_out():
    assert "assetserver_http_requests_total" not in parse(render(Board(), ""))
    assert parse(render(Board(), ""))["assetserver_upload_bytes_total"][()] == 0


def test_labels_of_what_is_looked_at_are_escaped():
    odd = 'a"b\\c\nd'

    found = parse(render(Board(), "", [Sample("odd", "gauge", "Odd.", {"name": odd}, 0.5)]))

    assert found["odd"] == {(("name", odd),): 0.5}


def test_this_process_is_told_of():
    found = parse(render(board_of(iter([])), ""))

    labels = (("process", "0"), ("role", "server"))
    assert found["process_resident_memory_bytes"][labels] > 1 << 20
    assert found["process_open_fds"][labels] > 2
    assert found["process_cpu_seconds_total"][labels] > 0


def test_no_request_makes_a_series_that_is_not_in_the_table():
    board = Board()
    counts = RequestCounts(board.claim())
    for number in range(3000):
        scope = {"method": f"M{number}", "path": f"/{number}", "endpoint": object()}
        fields = [(b"content-encoding", b"c%d" % number), (b"cache-status", b"s%d" % number)]
        counts.begin()
        counts.end(counts.tally(scope, 200 + number, fields), 1)

    found = parse(render(board, ""))["assetserver_http_requests_total"]

    assert sum(found.values()) == 3000
    assert {dict(labels)["method"] for labels in found} == {"other"}
    assert len(found) < 60
