"""The error tree: every failure that this package raises on purpose.

Each class carries the HTTP ``status`` that answers it, should it reach a client, and ``retryable``: whether the same call
may succeed later with nothing changed by the caller.
"""

from __future__ import annotations

from typing import ClassVar


class AssetServerError(Exception):
    """Base of all errors of this package."""

    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False


class SettingsError(AssetServerError):
    """A configuration that cannot be used. The message names the place, the value and the remedy."""


class FileChangedError(AssetServerError):
    """A file was replaced or cut while it was being read. Asking again gives its new content."""

    status = 503
    retryable = True


class OverloadedError(AssetServerError):
    """The process is out of descriptors or memory, or is stopping. Asking again later may succeed."""

    status = 503
    retryable = True
