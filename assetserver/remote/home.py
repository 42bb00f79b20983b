"""What the API of releases is told of the server it is in: where releases are kept, and what the settings say of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from assetserver.errors import NoSpaceError
from assetserver.releases.activation import CheckManifest
from assetserver.releases.library import Library
from assetserver.releases.manifest import ReleaseId
from assetserver.releases.publish import PublishOptions


@dataclass(frozen=True, slots=True)
class Home:
    """The releases of a server.

    ``choose_site`` returns the site that is meant, None for the only one, or raises ``ReleaseMissingError``. ``options_of``:
    how a site is published. ``live_url`` and ``preview_url`` (site, release, alias): where it can be seen, "" for nowhere.
    ``keep_signature`` keeps a signature of a manifest, or raises ``SignatureError``. ``check``: what a release must pass to go
    live. ``blob_limit_bytes``: the largest file that is taken; ``reserve_bytes``: how much of the disk stays free.
    ``keeps_secrets``: private keys are taken, too. ``owes_purge``: activations have caches in front purged.
    """

    library: Library
    choose_site: Callable[[str | None], str]
    options_of: Callable[[str], PublishOptions]
    live_url: Callable[[str], str]
    preview_url: Callable[[str, ReleaseId, str], str]
    keep_signature: Callable[[ReleaseId, bytes], None]
    check: CheckManifest | None
    blob_limit_bytes: int
    reserve_bytes: int
    keeps_secrets: bool
    owes_purge: bool = False

    def check_room(self, size: int) -> None:
        """Raise ``NoSpaceError`` if ``size`` more bytes would leave less of the disk free than the reserve."""
        folder = self.library.folder
        while not os.path.exists(folder):
            folder = os.path.dirname(os.path.abspath(folder))
        status = os.statvfs(folder)
        if status.f_bavail * status.f_frsize - size < self.reserve_bytes:
            raise NoSpaceError("the server's disk has no room for it; what was live stays live")
