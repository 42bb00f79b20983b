"""The data folder of these settings: which engines keep releases and where, and what the settings ask of a release."""

from __future__ import annotations

import os
from collections.abc import Callable

from .errors import SignatureError
from .releases.checks import CheckPolicy
from .releases.library import Library
from .releases.manifest import SHORT, ReleaseId
from .releases.publish import PublishOptions
from .releases.signing import SUFFIX, parse_public_key, verify_signature
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


def publish_options(settings: Settings, site_name: str) -> PublishOptions:
    """Return how the site called ``site_name`` is published; one that is not served is published with the defaults."""
    site = next((one for one in served_sites(settings) if one.name == site_name), SiteSettings(name=site_name))
    wanted = settings.publish
    policy = CheckPolicy(wanted.secrets, wanted.source_maps, wanted.missing_references, huge_file_bytes=wanted.huge_file_bytes)
    mount = "/" if site.prefix == "/" else site.prefix + "/"
    return PublishOptions(wanted.dialect, site.immutable, policy, mount, fallback=bool(site.fallback))


def check_signature(settings: Settings, library: Library) -> Callable[[ReleaseId], None] | None:
    """Return what raises ``SignatureError`` unless a trusted key has signed a release, or None if no key is configured."""
    if not settings.data.trusted_keys:
        return None
    keys = [parse_public_key(text) for text in settings.data.trusted_keys]

    def check(release: ReleaseId) -> None:
        path = library.manifest_path(release)
        try:
            with open(path, "rb") as manifest, open(path + SUFFIX, encoding="utf-8", errors="surrogateescape") as signature:
                verify_signature(keys, manifest.read(), signature.read())
        except FileNotFoundError as error:
            raise SignatureError(
                f"release {release[:SHORT]} is not signed, and data.trusted_keys wants it: assetserver publish --sign KEY"
            ) from error
        except SignatureError as error:
            raise SignatureError(f"release {release[:SHORT]}: {error}") from error

    return check
