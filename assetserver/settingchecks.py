"""What settings must be together, beyond each by itself."""

from __future__ import annotations

from typing import Protocol

from .errors import SettingsError
from .settingtables import MountSettings, PurgeSettings, ServerSettings, SiteSettings, WebhookSettings
from .tomllines import Location, format_key, format_value


class Settings(Protocol):
    """What of all settings is looked at; ``locate`` says where one came from."""

    @property
    def sites(self) -> tuple[SiteSettings, ...]:
        """``[[sites]]``."""

    @property
    def mounts(self) -> tuple[MountSettings, ...]:
        """``[[mounts]]``."""

    @property
    def purge(self) -> tuple[PurgeSettings, ...]:
        """``[[purge]]``."""

    @property
    def server(self) -> ServerSettings:
        """``[server]``."""

    @property
    def webhooks(self) -> WebhookSettings:
        """``[webhooks]``."""

    def locate(self, *location: str | int) -> str:
        """Return where a setting came from."""


def check_together(settings: Settings) -> None:
    """Raise ``SettingsError`` for settings that contradict each other, or of which one needs another."""
    _check_places(settings)
    _check_webhooks(settings)
    _check_purge(settings)
    _check_tls(settings)


def _check_places(settings: Settings) -> None:
    """Raise ``SettingsError`` if two sites or mounts have the same host and prefix."""
    places: dict[tuple[str, str], Location] = {}
    groups: dict[str, tuple[SiteSettings | MountSettings, ...]] = {"sites": settings.sites, "mounts": settings.mounts}
    for name, elements in groups.items():
        for index, one in enumerate(elements):
            first = places.setdefault((one.host, one.prefix), (name, index))
            if first != (name, index):
                both = f"{format_key((name, index))} and {format_key(first)} ({settings.locate(*first)})"
                place = format_value(one.host + one.prefix)
                problem = f"{both} have the same host and prefix, {place}; change one of them"
                raise SettingsError(f"{settings.locate(name, index)}: {problem}")


def _check_webhooks(settings: Settings) -> None:
    """Raise ``SettingsError`` if events would be sent that no receiver could know from forged ones."""
    if settings.webhooks.url and not settings.webhooks.secrets:
        place = settings.locate("webhooks", "url")
        remedy = 'webhooks.secrets = ["whsec_…"], of which `echo whsec_$(openssl rand -base64 32)` makes one'
        raise SettingsError(f"{place}: webhooks.url is set, and nothing signs what is sent there; add {remedy}")


def _check_tls(settings: Settings) -> None:
    """Raise ``SettingsError`` for a key of no certificate: whoever wrote it believes that TLS is spoken."""
    if settings.server.tls_key and not settings.server.tls_certificate:
        place = settings.locate("server", "tls_key")
        raise SettingsError(f"{place}: server.tls_key is set, and server.tls_certificate is not; set both, or neither")


def _check_purge(settings: Settings) -> None:
    """Raise ``SettingsError`` for a cache in front that could not be purged as it is described."""
    names: dict[str, int] = {}
    known = {one.name for one in settings.sites} or {SiteSettings().name}
    for index, one in enumerate(settings.purge):
        first = names.setdefault(one.name, index)
        problem, key = "", "service"
        if first != index:
            problem, key = f"is also the name of purge[{first}]; choose another", "name"
        elif one.service in {"cloudflare", "fastly"} and not one.zone:
            problem = "needs a zone: the id of " + ("the zone" if one.service == "cloudflare" else "the service")
        elif one.service in {"varnish", "webhook"} and not one.url:
            problem = "needs a url: where to send it"
        elif one.service == "webhook" and not one.secrets:
            problem = 'needs secrets = ["whsec_…"], of which `echo whsec_$(openssl rand -base64 32)` makes one'
        elif unknown := sorted(set(one.sites) - known):
            problem, key = f"names {format_value(unknown[0])}; there are {', '.join(sorted(known))}", "sites"
        elif not (one.origins or settings.server.public_url or all(site.host for site in settings.sites or (SiteSettings(),))):
            problem = 'needs origins = ["https://…"], or server.public_url: what visitors ask it for'
        if problem:
            value = format_value(getattr(one, key)) if key != "sites" else "sites"
            raise SettingsError(f"{settings.locate('purge', index, key)}: purge[{index}] ({value}) {problem}")
