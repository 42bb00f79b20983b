"""The data folder of these settings: which engines keep releases, and where."""

from __future__ import annotations

import os

from .releases.library import Library
from .settings import Settings
from .settingtables import SiteSettings
from .storage.files import FileBlobs

DEFAULT_FOLDER = "data"


def open_library(settings: Settings) -> Library:
    """Return the releases of ``settings``: in ``data.path``, else ``$STATE_DIRECTORY`` (systemd), else ``./data``."""
    folder = settings.data.path or os.environ.get("STATE_DIRECTORY", "").partition(":")[0] or DEFAULT_FOLDER
    return Library(folder, FileBlobs(os.path.join(folder, "blobs")))


def served_sites(settings: Settings) -> tuple[SiteSettings, ...]:
    """Return the sites whose releases are served: those named, or one at ``/`` where nothing at all is named."""
    if settings.sites or settings.mounts:
        return settings.sites
    return (SiteSettings(),)
