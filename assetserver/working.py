"""A worker as a process: of a master that serves, or alone. It waits for records that are not there yet."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from contextlib import suppress

from .announcing import announcements
from .data import Records, open_media_blobs, open_records, studio_folder
from .delivery.variantstore import VariantStore
from .endings import EX_FAILURE
from .errors import AssetServerError
from .jobkinds import job_kinds
from .jobs.queue import JobQueue
from .jobs.worker import Worker
from .ondemandjobs import open_variants
from .ondemandsweep import CacheSweep, open_sweep
from .picturejobs import PictureMaker
from .settings import Settings
from .studios import open_studio
from .workers import READY

logger = logging.getLogger(__name__)

NICENESS = 10
"""Beside a server: requests come first."""

_LOOK_S = 0.1
_LONGEST_PAUSE_S = 5.0


def work(settings: Settings, channel: socket.socket | None = None) -> int:
    """Work until SIGTERM, SIGINT, or the end of the master behind ``channel``; return the exit code.

    To be called in the main thread.
    """
    process = _Process(settings, channel)
    signal.signal(signal.SIGTERM, process.on_signal)
    if channel is None:
        signal.signal(signal.SIGINT, process.on_signal)
    else:
        with suppress(OSError):  # a sandbox may forbid it
            os.nice(NICENESS)
        channel.send(READY)
        threading.Thread(target=process.watch_master, name="assetserver-master", daemon=True).start()
    return process.run()


class _Process:
    def __init__(self, settings: Settings, channel: socket.socket | None) -> None:
        self._settings = settings
        self._channel = channel
        self._worker: Worker | None = None
        self._maker: PictureMaker | None = None
        self._sweep: CacheSweep | None = None
        self._studio = open_studio(settings.images)
        self._is_stopping = False

    def run(self) -> int:
        records = open_records(self._settings, announcements(self._settings))
        try:
            queue = self._open_queue(records)
            if queue is None:
                return 0
            jobs = self._settings.jobs
            self._maker = self._open_maker(records)
            store = self._open_store()
            self._worker = Worker(
                queue,
                job_kinds(self._settings, self._studio, self._maker, store),
                lease_s=jobs.lease_s,
                grace_s=self._settings.server.graceful_shutdown_s,
                keep_done_s=jobs.keep_done_s,
                keep_dead_s=jobs.keep_dead_s,
            )
            return 0 if self._is_stopping or self._worker.run() else EX_FAILURE
        finally:
            self._studio.close()
            if self._sweep is not None:
                self._sweep.close()
            if self._maker is not None:
                self._maker.close()
            records.close()

    def on_signal(self, *_: object) -> None:
        """End soon."""
        self._is_stopping = True
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

    def _open_maker(self, records: Records) -> PictureMaker | None:
        if not self._settings.images.enabled:
            return None
        blobs, scratch = open_media_blobs(self._settings), studio_folder(self._settings)
        return PictureMaker(self._studio, blobs, scratch, records.pictures, self._settings.images.concurrent)

    def _open_store(self) -> VariantStore | None:
        """Return where pictures on demand are kept, if any are made; what is in it of removed uploads goes from now on."""
        if not self._settings.images.on_demand:
            return None
        store = open_variants(self._settings)
        self._sweep = open_sweep(self._settings, store)
        self._sweep.start()
        return store

    def _open_queue(self, records: Records) -> JobQueue | None:
        """Return the jobs once there are records, or None if we are to end before."""
        pause_s = _LOOK_S
        while not self._is_stopping:
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
