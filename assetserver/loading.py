"""What a server imports, and when; and how its processes keep what they have.

Imports are nearly all that a start takes. What answers a file is imported before the first fork, once for all; everything else
when somebody serves: see ``supervision.master``.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
from contextlib import suppress

import uvicorn

from .data import load_engine, open_records
from .settings import Settings

GC_THRESHOLD = (20_000, 20, 20)
HEAP_KEPT_BYTES = 8 << 20
HEAP_PIECE_BYTES = 4 << 20
"""What is larger than this goes back to the kernel at once."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEEDED_SOON = ("anyio._backends._asyncio",)
"""What would be imported by the first request, in every worker."""


def load_all(config: uvicorn.Config) -> None:
    """Import what a worker will need, once for all of them."""
    config.load()
    config.get_loop_factory()
    for name in _NEEDED_SOON:
        importlib.import_module(name)


def load_later(settings: Settings, job_workers: int) -> None:
    """Import what no answer of a file needs, for processes that are forked later: those who serve do so by then.

    ``job_workers``: how many of them will do jobs. May be repeated.
    """
    names = ["assetserver.delivery.livesockets"] if settings.uploads.enabled else []
    names += ["assetserver.remote.endpoint"] if settings.publish.remote else []
    names += ["assetserver.working"] if job_workers else []
    for name in names:
        importlib.import_module(name)
    if settings.uploads.enabled or (job_workers and open_records(settings).are_there()):
        load_engine(settings)


def tune_memory() -> None:
    """Have the interpreter look for cycles rarely, and never at what was loaded at the start.

    What the access log holds for half a second was looked through again and again (measured 2026-11-27: 3 µs a request).
    """
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    _keep_heap()


def _keep_heap() -> None:
    """Have glibc keep a little of what is freed, where it is glibc.

    The pieces of an upload, 256 KB each, were given back to the kernel and asked for again: 100,000 page faults for each GiB,
    a tenth of its processor time (measured 2026-11-27).
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, HEAP_PIECE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, HEAP_KEPT_BYTES)
