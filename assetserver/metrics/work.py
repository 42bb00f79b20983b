"""Uploads, jobs and what they make, counted; from any thread."""

from __future__ import annotations

from .board import Block
from .families import family

_ATTEMPTS, _DURATION = family("job_attempts_total"), family("job_duration_seconds")
_COMPLETE, _UPLOAD_BYTES = family("uploads_total").slot("complete"), family("upload_bytes_total").slot()
_VARIANTS, _VARIANT_BYTES = family("variants_total"), family("variant_bytes_total")


class UploadCounts:
    """Counts uploads that are complete."""

    def __init__(self, block: Block) -> None:
        self._block = block

    def note(self, size_bytes: int) -> None:
        """Count an upload whose bytes and record are durable."""
        self._block.add(_COMPLETE)
        self._block.add(_UPLOAD_BYTES, size_bytes)


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
