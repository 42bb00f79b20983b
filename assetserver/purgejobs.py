"""Purges as jobs: the connectors that these settings describe, and where their tokens are."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from .errors import JobFailedError
from .jobs.attempt import Kind
from .purging.cloudflare import Cloudflare
from .purging.connectors import Connector
from .purging.fastly import Fastly
from .purging.notice import Notice
from .purging.sending import purge_kind
from .purging.varnish import Varnish
from .settings import Settings
from .settingtables import PurgeSettings
from .webhooks.signing import parse_secret, sign_fields

_LONGEST_TOKEN = 4096


def purge_jobs(settings: Settings) -> Kind:
    """Return the kind of job that purges the caches of ``settings``."""
    return purge_kind({one.name: (open_connector(one), float(one.timeout_s)) for one in settings.purge})


def open_connector(one: PurgeSettings) -> Connector:
    """Return what speaks to a cache. Its token is read for each order, so that it can be replaced."""
    if one.service == "cloudflare":
        return Cloudflare(one.zone, _token_of(one), one.url)
    if one.service == "fastly":
        return Fastly(one.zone, _token_of(one), one.url, soft=one.soft)
    if one.service == "varnish":
        return Varnish(one.url, partial(read_token, one), soft=one.soft)
    return Notice(one.url, partial(sign_fields, [parse_secret(text) for text in one.secrets]))


def _token_of(one: PurgeSettings) -> Callable[[], str]:
    def read() -> str:
        if token := read_token(one):
            return token
        places = f"purge.token_file, purge.token, or the systemd credential purge-{one.name}"
        raise JobFailedError(f"{one.name} has no API token: put it into {places}")

    return read


def read_token(one: PurgeSettings) -> str:
    """Return the API token of a cache, or "" if there is none: ``token_file``, ``token``, or the credential ``purge-NAME``.

    Raises ``JobFailedError`` for a file that cannot be read, or holds no token.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY", "")
    path = one.token_file or (os.path.join(credentials, f"purge-{one.name}") if credentials and not one.token else "")
    if not path or (not one.token_file and not os.path.exists(path)):
        return one.token
    try:
        with open(path, encoding="ascii") as file:
            token = file.read(_LONGEST_TOKEN).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no token"
        raise JobFailedError(f"the API token of {one.name} cannot be read from {path}: {reason}") from error
    if not token or not token.isprintable() or " " in token:
        raise JobFailedError(f"{path} holds no API token for {one.name}; one line of printable ASCII is one")
    return token
