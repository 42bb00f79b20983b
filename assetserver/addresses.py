"""Where releases can be seen: URLs for people to open, made of the settings. Whether anything answers there is not known."""

from __future__ import annotations

from urllib.parse import urlsplit

from .baseurl import base_url
from .data import served_sites
from .releases.manifest import SHORT, ReleaseId
from .semantics.targets import format_target
from .settings import Settings


def live_url(settings: Settings, site_name: str) -> str:
    """Return where a site is served, its first place if there are several, or "" if these settings do not serve it."""
    site = next((one for one in served_sites(settings) if one.name == site_name), None)
    if site is None:
        return ""
    base = urlsplit(base_url(settings))
    origin = _origin(base.scheme or "http", site.host, base.port) if site.host else base.geturl()
    return origin + format_target(site.prefix.strip("/")).rstrip("/") + "/"


def preview_url(settings: Settings, site_name: str, release: ReleaseId, alias: str = "") -> str:
    """Return where a release, or what ``alias`` means, can be looked at whether it is live or not, or "" if nowhere."""
    if not settings.previews.enabled or not live_url(settings, site_name):
        return ""
    if settings.previews.host:
        public = urlsplit(settings.server.public_url)
        return _origin(public.scheme or "https", f"{alias or release[:SHORT]}.{settings.previews.host}", public.port) + "/"
    return f"{base_url(settings)}/-/releases/{f'@{alias}' if alias else release[:SHORT]}/"


def _origin(scheme: str, host: str, port: int | None) -> str:
    return f"{scheme}://{host}" + (f":{port}" if port else "")
