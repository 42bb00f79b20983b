"""Uploads, jobs and what they make, counted; from any thread."""

from __future__ import annotations

import time

from .board import Block
from .families import family

_ATTEMPTS, _DURATION = family("job_attempts_total"), family("job_duration_seconds")
_COMPLETE, _UPLOAD_BYTES = family("uploads_total").slot("complete"), family("upload_bytes_total").slot()
_RESTARTS = family("worker_restarts_total")
_IN_FORCE = family("config_last_reload_success").slot()
_SINCE = family("config_last_reload_timestamp_seconds").slot()
_VARIANTS, _VARIANT_BYTES = family("variants_total"), family("variant_bytes_total")


class UploadCounts:
    """Counts uploads that are complete."""

    def __init__(self, block: Block) -> None:
        self._block = block

    def note(self, size_bytes: int) -> None:
        """Count an upload whose bytes and record are durable."""
        self._block.add(_COMPLETE)
        self._block.add(_UPLOAD_BYTES, size_bytes)


class MasterCounts:
    """Counts what the master of several workers does."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._put_in_force()

    def replace(self, reason: str) -> None:
        """Count a worker that is replaced, since it ``ended``, was ``killed`` or ``stuck``."""
        self._block.add(_RESTARTS.slot(reason))

    def reload(self, is_in_force: bool) -> None:
        """Note whether the newest settings are in force."""
        self._block.slots[_IN_FORCE] = int(is_in_force)
        if is_in_force:
            self._put_in_force()

    def _put_in_force(self) -> None:
        self._block.slots[_IN_FORCE], self._block.slots[_SINCE] = 1, int(time.time())


class JobCounts:
    """Counts what a worker that does jobs does."""

    def __init__(self, block: Block) -> None:
        self._block = block

    def note(self, kind: str, result: str, duration_s: float) -> None:
        """Count an attempt at a job of this kind: it is ``done``, ``failed``, ``dead`` (not tried again) or ``lost``."""
        self._block.add(_ATTEMPTS.slot(kind, result))
        self._block.observe(_DURATION, _DURATION.slot(kind), duration_s)

    def note_variant(self, form: str, size_bytes: int) -> None:
        """Count a picture that was made."""
        self._block.add(_VARIANTS.slot(form))
        self._block.add(_VARIANT_BYTES.slot(form), size_bytes)
