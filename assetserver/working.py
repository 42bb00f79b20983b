"""A worker as a process: of a master that serves, or alone. It waits for records that are not there yet."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from .announcing import announcements
from .counters import open_counters
from .data import Records, open_library, open_media_blobs, open_records, studio_folder
from .delivery.variantstore import VariantStore
from .endings import EX_FAILURE
from .errors import AssetServerError
from .jobkinds import choose_kinds, job_kinds
from .jobs.queue import JobQueue
from .jobs.worker import Worker
from .kindnames import IMAGE, LADDER, ON_DEMAND
from .metrics.board import Board, Role
from .metrics.work import JobCounts
from .ondemandjobs import open_variants
from .ondemandsweep import CacheSweep, open_sweep
from .picturejobs import PictureMaker
from .purgeorders import PurgeDebts
from .purging.orders import KIND as PURGE
from .reloading import check_command
from .settings import Settings
from .studios import open_studio
from .supervision.notices import Notifier
from .supervision.renewal import Renewal, run_anew
from .supervision.words import READY, beat

logger = logging.getLogger(__name__)

NICENESS = 10
"""Beside a server: requests come first."""

_LOOK_S = 0.1
_LONGEST_PAUSE_S = 5.0


def work(
    settings: Settings,
    channel: socket.socket | None = None,
    kinds: str = "",
    board: Board | None = None,
    on_ready: Callable[[], object] = lambda: None,
) -> int:
    """Work until SIGTERM, SIGINT, or the end of the master behind ``channel``; return the exit code.

    Without a master, the service manager is told, and SIGHUP has it read its settings anew. ``kinds``: see ``choose_kinds``.
    ``board`` is where the processes of its server count; without, it counts for itself, where servers find it. ``on_ready`` is
    called, without a master, once it can be told to stop. To be called in the main thread.
    """
    chosen = choose_kinds(settings, kinds)
    notifier = Notifier(os.environ if channel is None else {})
    process = _Process(settings, channel, chosen, notifier, JobCounts((board or open_counters(settings)).claim(Role.JOBS)))
    signal.signal(signal.SIGTERM, process.on_signal)
    if channel is None:
        signal.signal(signal.SIGINT, process.on_signal)
        signal.signal(signal.SIGHUP, process.renewal.on_signal)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # "reopen the log", of which it has none
        on_ready()
        notifier.ready(f"doing jobs ({', '.join(chosen)})")
    else:
        with suppress(OSError):  # a sandbox may forbid it
            os.nice(NICENESS)
        channel.send(READY)
        threading.Thread(target=process.watch_master, name="assetserver-master", daemon=True).start()
    code = process.run()
    if process.renewal.is_due:
        run_anew()
    return code


class _Process:
    def __init__(
        self,
        settings: Settings,
        channel: socket.socket | None,
        kinds: list[str],
        notifier: Notifier,
        counts: JobCounts,
    ) -> None:
        self._settings = settings
        self._channel = channel
        self._notifier = notifier
        self.renewal = Renewal(check_command("worker"), notifier, self.stop)
        self._kinds = kinds
        self._is_ending = threading.Event()
        self._debts: threading.Thread | None = None
        self._worker: Worker | None = None
        self._maker: PictureMaker | None = None
        self._sweep: CacheSweep | None = None
        self._studio = open_studio(settings.images)
        self._studio.on_made = lambda variant: counts.note_variant(variant.format, variant.size)
        self._counts = counts
        self._is_stopping = False

    def run(self) -> int:
        records = open_records(self._settings, announcements(self._settings))
        try:
            if PURGE in self._kinds:
                self._debts = self._watch_debts(records)
            queue = self._open_queue(records)
            if queue is None:
                return 0
            jobs = self._settings.jobs
            self._maker = self._open_maker(records)
            kinds = job_kinds(self._settings, self._studio, self._maker, self._open_store())
            self._worker = Worker(
                queue,
                {name: kinds[name] for name in self._kinds},
                lease_s=jobs.lease_s,
                grace_s=self._settings.server.graceful_shutdown_s,
                keep_done_s=jobs.keep_done_s,
                keep_dead_s=jobs.keep_dead_s,
                on_turn=self._beat,
                on_end=self._counts.note,
            )
            return 0 if self._is_stopping or self._worker.run() else EX_FAILURE
        finally:
            self._is_ending.set()
            if self._debts is not None:
                self._debts.join(_LONGEST_PAUSE_S)
            self._studio.close()
            if self._sweep is not None:
                self._sweep.close()
            if self._maker is not None:
                self._maker.close()
            records.close()

    def on_signal(self, *_: object) -> None:
        """End soon: somebody said so."""
        self._notifier.stopping()
        self.renewal.is_due = False
        self.stop()

    def stop(self) -> None:
        """Finish what runs."""
        self._is_stopping = True
        self._is_ending.set()
        if self._worker is not None:
            self._worker.stop()

    def watch_master(self) -> None:
        """End when nobody is there any more who would end us."""
        assert self._channel is not None  # noqa: S101 - or there is no master
        try:
            while self._channel.recv(1024):
                pass
        except OSError:
            pass
        self.on_signal()

    def _beat(self) -> None:
        """Say that it is alive, to whoever started it."""
        beat(self._channel)
        self._notifier.beat(time.monotonic())
        self.renewal.turn()

    def _watch_debts(self, records: Records) -> threading.Thread:
        debts = PurgeDebts(self._settings, open_library(self._settings), records)
        thread = threading.Thread(target=debts.watch, args=(self._is_ending,), name="assetserver-purges", daemon=True)
        thread.start()
        return thread

    def _open_maker(self, records: Records) -> PictureMaker | None:
        if IMAGE not in self._kinds:
            return None
        blobs, scratch = open_media_blobs(self._settings), studio_folder(self._settings)
        return PictureMaker(self._studio, blobs, scratch, records.pictures, self._settings.images.concurrent)

    def _open_store(self) -> VariantStore | None:
        """Return where pictures on demand are kept, if any are made; what is in it of removed uploads goes from now on."""
        if not {ON_DEMAND, LADDER} & set(self._kinds):
            return None
        store = open_variants(self._settings)
        self._sweep = open_sweep(self._settings, store)
        self._sweep.start()
        return store

    def _open_queue(self, records: Records) -> JobQueue | None:
        """Return the jobs once there are records, or None if we are to end before."""
        pause_s = _LOOK_S
        while not self._is_stopping:
            self._beat()
            if records.are_there():
                try:
                    return records.jobs()
                except AssetServerError as error:
                    if not error.retryable:
                        raise
                    logger.warning("jobs are not looked for: %s", error)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            time.sleep(pause_s)
        return None
