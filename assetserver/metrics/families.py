"""What is counted, as a table: every metric, its labels with all values that they may have, and where its numbers stand.

The set of series is fixed, and with it what they cost: nothing that a client sends makes one. A block has one slot of 64 bits
for each; durations are kept in nanoseconds. Names follow the conventions of Prometheus (``_total``, base units).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal
from zlib import crc32

SLOT_BYTES = 8
NANOSECONDS = 1_000_000_000

OTHER = "other"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER)
HANDLERS = ("site", "folder", "preview", "media", "picture", "upload", "api", "console", "admin", OTHER)
CODINGS = ("identity", "gzip", "br", "zstd", "dcz", OTHER)
CACHE_RESULTS = ("hot", "hit", "stored", "bypass", "unknown")
ABANDONED = 499
"""The code of a request whose client left before it was answered, as nginx has it."""

CODES = (
    *("200", "201", "202", "204", "206", "207", "301", "302", "303", "304", "307", "308"),
    *("400", "401", "403", "404", "405", "406", "408", "409", "410", "411", "412", "413", "414", "415", "416", "417"),
    *("421", "422", "423", "428", "429", "431", "460", "499", "500", "501", "502", "503", "504", "507", OTHER),
)
JOB_KINDS = ("image", "picture", "ladder", "webhook", "purge", OTHER)
JOB_RESULTS = ("done", "failed", "dead", "lost")
FORMATS = ("jpeg", "png", "webp", "avif", "gif", OTHER)

_MILLISECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5)
_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Family:
    """A metric. ``labels`` are names and all their values; ``bounds`` those of a histogram's buckets, in seconds.

    What is counted in ``per_unit`` parts of the unit is divided by it when it is told. A gauge that is ``by_worker`` is told
    for each process, others as the sum of those that live. ``first`` is the first of its slots.
    """

    name: str
    kind: Kind
    text: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    bounds: tuple[float, ...] = ()
    per_unit: int = 1
    by_worker: bool = False
    first: int = -1

    @property
    def width(self) -> int:
        """How many slots one series takes: a histogram has one for each bucket, one beyond them, and the sum."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1

    @property
    def size(self) -> int:
        """How many slots it takes in all."""
        count = self.width
        for _, values in self.labels:
            count *= len(values)
        return count

    def slot(self, *values: str) -> int:
        """Return the slot of the series with these label values, in the order of ``labels``; a histogram's first.

        A value that is not in the table is ``other``. Raises ``ValueError`` where there is no such value either.
        """
        place = 0
        for (_, known), value in zip(self.labels, values, strict=True):
            place = place * len(known) + known.index(value if value in known else OTHER)
        return self.first + place * self.width

    def bucket(self, seconds: float) -> int:
        """Return which slot of a series, from its first, counts an observation of ``seconds``."""
        return bisect_left(self.bounds, seconds)

    def series(self) -> Iterator[tuple[Labels, int]]:
        """Yield labels and first slot of every series."""
        names = [name for name, _ in self.labels]
        for place, values in enumerate(product(*(known for _, known in self.labels))):
            yield tuple(zip(names, values, strict=True)), self.first + place * self.width


_METHOD, _CODE, _HANDLER = ("method", METHODS), ("code", CODES), ("handler", HANDLERS)

_ROWS = (
    Family("assetserver_http_requests_total", "counter", "Requests that were answered.", (_METHOD, _CODE, _HANDLER)),
    Family("assetserver_http_response_bytes_total", "counter", "Bytes of content that were sent.", (_HANDLER,)),
    Family(
        "assetserver_http_request_duration_seconds",
        "histogram",
        "From a request to the end of its answer; without answers repeated from memory, which take microseconds.",
        (_HANDLER,),
        (*_MILLISECONDS, 1.0, 2.5, 5.0, 10.0, 30.0),
        NANOSECONDS,
    ),
    Family("assetserver_http_requests_in_flight", "gauge", "Requests that are being answered."),
    Family("assetserver_http_connections", "gauge", "Connections that are open."),
    Family(
        "assetserver_http_protocol_errors_total",
        "counter",
        "Requests that were no HTTP, or beyond a limit.",
        (("reason", ("malformed", "target-too-long", "fields-too-large")),),
    ),
    Family(
        "assetserver_proxy_headers_refused_total",
        "counter",
        "Connections that were closed for want of the PROXY protocol's header.",
        (("reason", ("untrusted", "malformed", "late")),),
    ),
    Family(
        "assetserver_http_timeouts_total",
        "counter",
        "Connections that were ended because the client was too slow.",
        (("phase", ("head", "body", "send")),),
    ),
    Family(
        "assetserver_cache_requests_total",
        "counter",
        "Answers of files: hot repeats a rendered one, hit has memory's content, stored the disk's, bypass is the kernel's.",
        (("result", CACHE_RESULTS), ("coding", CODINGS)),
    ),
    Family("assetserver_old_hash_misses_total", "counter", "Names with a fingerprint that are not there (any more)."),
    Family("assetserver_log_lines_dropped_total", "counter", "Lines of the access log that could not be written."),
    Family("assetserver_delta_responses_total", "counter", "Answers sent as the difference from another version (RFC 9842)."),
    Family("assetserver_delta_saved_bytes_total", "counter", "Bytes that those spared, against the best other coding."),
    Family(
        "assetserver_uploads_total",
        "counter",
        "Uploads: complete, refused before their end, or broken off.",
        (("result", ("complete", "refused", "broken")),),
    ),
    Family("assetserver_upload_bytes_total", "counter", "Bytes of complete uploads."),
    Family(
        "assetserver_job_attempts_total",
        "counter",
        "Attempts at background jobs.",
        (("kind", JOB_KINDS), ("result", JOB_RESULTS)),
    ),
    Family(
        "assetserver_job_duration_seconds",
        "histogram",
        "How long attempts took.",
        (("kind", JOB_KINDS),),
        _SECONDS,
        NANOSECONDS,
    ),
    Family("assetserver_variants_total", "counter", "Pictures that were made of others.", (("format", FORMATS),)),
    Family("assetserver_variant_bytes_total", "counter", "Bytes of those.", (("format", FORMATS),)),
    Family(
        "assetserver_event_loop_lag_seconds",
        "histogram",
        "How late the event loops of all workers were, looked at ten times a second.",
        (),
        (*_MILLISECONDS, 1.0, 2.5),
        NANOSECONDS,
    ),
    Family(
        "assetserver_event_loop_latest_lag_seconds",
        "gauge",
        "The longest of those in the last second.",
        per_unit=NANOSECONDS,
        by_worker=True,
    ),
    Family(
        "assetserver_worker_restarts_total",
        "counter",
        "Workers that were replaced: after they ended, were killed, or were stuck.",
        (("reason", ("ended", "killed", "stuck")),),
    ),
    Family("assetserver_config_last_reload_success", "gauge", "1 if the newest settings are in force, 0 if they were refused."),
    Family("assetserver_config_last_reload_timestamp_seconds", "gauge", "When settings were last put in force, since 1970."),
)


def _lay_out(rows: tuple[Family, ...]) -> Iterator[Family]:
    first = 0
    for row in rows:
        yield Family(**{**vars(row), "first": first})
        first += row.size


FAMILIES: Mapping[str, Family] = {row.name: row for row in _lay_out(_ROWS)}
SLOTS = sum(row.size for row in _ROWS)
LAYOUT = crc32(repr(tuple(FAMILIES.values())).encode())
"""Tells this table from that of another version: blocks of the same layout mean the same."""
GAUGES = tuple(slot for row in FAMILIES.values() if row.kind == "gauge" for slot in range(row.first, row.first + row.size))


def family(name: str) -> Family:
    """Return the metric ``assetserver_NAME``. Raises ``KeyError``."""
    return FAMILIES[f"assetserver_{name}"]
