"""The commands of access: ``token create``, ``token list``, ``token revoke``, and ``sign``."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote, urlsplit

import click

from .access.signedurls import IMAGE, MEDIA, sign_url
from .access.tokens import TokenRecord, issue_token
from .baseurl import base_url
from .data import Records, data_folder, load_signing_keys, open_records, open_revocations
from .delivery.mediafolder import parse_media_path
from .errors import AccessError
from .semantics.targets import RefusedTarget, format_target, parse_target
from .settings import Settings
from .wording import escape, in_utc, short_path

_MEDIA = "/media/"
_IMAGES = "/image/"
_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhdwy])")
_NO_TIME = re.compile(r"0{1,9}[smhdwy]?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_ID_FORM = "22 or more letters, digits, - and _"
_ID = re.compile(r"(?:ast_)?([0-9a-f]{12})(?:_[0-9a-f]{48})?")


def create(settings: Settings, options: dict[str, Any]) -> None:
    """Make a token and print it, alone on stdout: it is shown this once."""
    now = time.time()
    lifetime_s = parse_duration(options["expires"]) if options["expires"] else None
    token, record = issue_token(
        options["scope"], now=now, prefix=options["prefix"], note=options["note"], lifetime_s=lifetime_s
    )
    with _opened(settings) as records:
        records.access().tokens.add(record)
    if options["as_json"]:
        click.echo(json.dumps({**_as_json(record, now), "token": str(token)}))
        return
    click.echo(f"token {token.id}: {_describe(record, now)}; it is shown only now", err=True)
    click.echo(str(token))


def list_tokens(settings: Settings, *, as_json: bool) -> None:
    """List the tokens, the oldest first; what was revoked stays in the list."""
    now = time.time()
    _check_folder(settings)
    with _opened(settings) as records:
        tokens = records.access().tokens.list_all()
    if as_json:
        click.echo(json.dumps([_as_json(token, now) for token in tokens]))
        return
    if not tokens:
        click.echo(f"no tokens in {short_path(data_folder(settings))} yet: assetserver token create --scope upload", err=True)
    for line in _as_lines(tokens, now):
        click.echo(line)


def revoke(settings: Settings, token_id: str) -> None:
    """Make a token void, and the grants that it made. Raises ``AccessError`` if there is none that was not."""
    match = _ID.fullmatch(token_id.strip())
    if match is None:
        raise AccessError(
            f"{escape(token_id[:20])!r} is not the id of a token: 12 hexadecimal digits, as `assetserver token list` shows them"
        )
    _check_folder(settings)
    with _opened(settings) as records:
        tokens = records.access().tokens
        if not tokens.revoke(match[1], time.time()):
            known = tokens.find(match[1])
            raise AccessError(f"token {match[1]} was revoked already" if known else f"there is no token {match[1]}")
        with suppress(OSError):  # without the mark, servers see it when they look the token up again, in less than a second
            open_revocations(settings).move()
    click.echo(f"revoked {match[1]}, and the grants that it made")


def sign(settings: Settings, path: str, lifetime: str) -> None:
    """Print the URL that admits to ``path`` until its end."""
    is_image = _path_of(path).startswith(_IMAGES)
    below = _read_image_path(settings, path) if is_image else _read_path(path)
    expires = int(time.time() + parse_duration(lifetime))
    if not settings.access.keys:
        _check_folder(settings)
    query = sign_url(load_signing_keys(settings), below, expires, IMAGE if is_image else MEDIA)
    origin = base_url(settings) if is_image else settings.uploads.media_url or base_url(settings)
    place = (_IMAGES if is_image else _MEDIA).rstrip("/")
    click.echo(f"valid until {in_utc(expires)}", err=True)
    click.echo(f"{origin}{place}{format_target(below)}?{query}")


def parse_duration(text: str) -> float:
    """Return seconds for ``90s``, ``15m``, ``12h``, ``30d``, ``8w`` or ``1y``. Raises ``AccessError``."""
    match = _DURATION.fullmatch(text)
    if _NO_TIME.fullmatch(text):
        raise AccessError(f"{text} is no time; it must be at least 1s")
    if match is None:
        raise AccessError(f"{escape(text[:20])!r} is not a time; write a number and s, m, h, d, w or y, such as 30d")
    return float(int(match[1]) * _SECONDS[match[2]])


@contextmanager
def _opened(settings: Settings) -> Iterator[Records]:
    records = open_records(settings)
    try:
        yield records
    finally:
        records.close()


def _check_folder(settings: Settings) -> None:
    """Raise ``AccessError`` if the data folder is not there: what is wanted of it would be made anew, and empty."""
    folder = data_folder(settings)
    if not os.path.isdir(folder):
        raise AccessError(f"there is no data folder {short_path(folder)}. If it is elsewhere, name it with --data")


def _path_of(text: str) -> str:
    """Return the path of ``text``, a path or a URL."""
    path = urlsplit(text).path
    return path if path.startswith("/") else f"/{path}"


def _read_image_path(settings: Settings, text: str) -> str:
    """Return the options, in their one spelling, and the path of the picture that ``text`` names."""
    from .ondemandurls import PictureUrls  # noqa: PLC0415 - other commands start without

    segment, _, rest = _path_of(text).removeprefix(_IMAGES).partition("/")
    if not settings.images.on_demand:
        raise AccessError("pictures on demand are not served: set images.on_demand = true")
    target = parse_target(f"/{rest}")
    if isinstance(target, RefusedTarget) or not target.path or target.path.endswith("/"):
        raise AccessError(f"{escape(text)} names no picture: {_IMAGES}OPTIONS/PATH, such as {_IMAGES}width=640/a.jpg")
    return f"{PictureUrls(settings).read(segment).options}/{target.path}"


def _read_path(text: str) -> str:
    """Return the path below ``/media/`` that ``text``, a path or a URL, names."""
    path = _path_of(text)
    target = parse_target(path)
    if isinstance(target, RefusedTarget):
        raise AccessError(f"{escape(text)} names nothing: {target.reason}")
    below = target.path.removeprefix(_MEDIA.lstrip("/"))
    if below == target.path or parse_media_path(below) is None:
        upload_id, _, name = below.partition("/")
        if below != target.path and name and "/" not in name:
            raise AccessError(f"{escape(upload_id[:80])!r} is not the id of an upload: {_ID_FORM}, as /uploads lists them")
        raise AccessError(f"{escape(unquote(path))} is not the path of an upload: /media/ID/NAME or /media/by-name/NAME")
    return below


def _describe(record: TokenRecord, now: float) -> str:
    parts = [" ".join(record.scopes)]
    parts += [f"names that begin with {record.prefix}"] if record.prefix else []
    return ", ".join([*parts, _state(record, now)])


def _state(record: TokenRecord, now: float) -> str:
    if record.revoked is not None:
        return f"revoked {in_utc(record.revoked)}"
    if record.expires is None:
        return "never expires"
    return f"{'expired' if record.expires <= now else 'expires'} {in_utc(record.expires)}"


def _as_lines(records: list[TokenRecord], now: float) -> Iterator[str]:
    width = max((len(" ".join(record.scopes)) for record in records), default=0)
    for record in records:
        prefix = f"  {escape(record.prefix)}*" if record.prefix else ""
        note = f"  {escape(record.note)}" if record.note else ""
        scopes = " ".join(record.scopes)
        yield f"{record.id}  {scopes:<{width}}  {in_utc(record.created)}  {_state(record, now)}{prefix}{note}"


def _as_json(record: TokenRecord, now: float) -> dict[str, Any]:
    return {
        "id": record.id,
        "scopes": list(record.scopes),
        "prefix": record.prefix,
        "note": record.note,
        "created": record.created,
        "expires": record.expires,
        "revoked": record.revoked,
        "valid": record.revoked is None and (record.expires is None or record.expires > now),
    }
