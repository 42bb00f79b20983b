"""Pictures on demand by the IIIF Image API 3.0: ``GET /iiif/3/IDENTIFIER/…``, for viewers that zoom into what is large.

    /iiif/3/assets%2Fharbour.jpg/info.json        /iiif/3/media%2FID%2FNAME/0,0,512,512/256,/0/default.jpg

The identifier is the path of an upload or of a published file, its slashes written as %2F. What is asked for becomes a
``Transform`` (``images.iiif``) and then is an order like any other. How large a picture is as it is seen, only who decodes it
can tell for sure: the first request for one orders its smallest step of the ladder.

Laws:
- Any region and size is for everybody: that is what the API is for, and why it is off by default.
- Nothing stands in for what is asked for: a viewer puts it beside its neighbours. Who waits too long is told to ask again.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from starlette.responses import Response
from starlette.types import Scope

from .delivery.requests import encoded_prefix, first_field, raw_path
from .errors import PictureLateError, PictureMissingError, TransformError
from .images.geometry import Size
from .images.iiif import CONTEXT, ImageRequest, describe_service, resolve_request
from .images.transform import Transform
from .ondemand import STAND_IN, Asked, PictureFiles, PictureSource
from .ondemandjobs import Order, Subject, order_picture
from .ondemandurls import Wanted
from .semantics.representation import Asset, Field
from .semantics.targets import RefusedTarget, parse_target

MOUNT = "/iiif/3"

_INFO = ["info.json"]
_LIMIT_SEEN = 4096
_PARTS = 4
_ORIGIN: Field = (b"access-control-allow-origin", b"*")
_PLAIN, _LINKED = "application/json", f'application/ld+json;profile="{CONTEXT}"'
_LEVEL = '<http://iiif.io/api/image/3/level2.json>;rel="profile"'


class IiifFiles(PictureFiles):
    """Serves pictures, and what is known of them; ``public_url`` is where clients reach this server; empty: as they ask."""

    def __init__(self, *arguments: Any, public_url: str = "", **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._own_fields = (*(one for one in self._own_fields if one[0] != _ORIGIN[0]), _ORIGIN)
        self._public_url = public_url
        self._seen: dict[bytes, Size] = {}

    async def _answer_url(self, scope: Scope) -> Response:
        identifier, *parts = raw_path(scope)[len(encoded_prefix(scope)) + 1 :].split("/")
        wanted = None if parts in ([], _INFO) else _read_parts(parts)
        asked = _ask(scope, identifier)
        source = await self._find_source(asked)
        if not parts:
            return self._redirect_to(303, f"{encoded_prefix(scope)}/{identifier}/{_INFO[0]}", STAND_IN)
        whole = await self._measure(source)
        if wanted is None:
            return self._describe(scope, identifier, source, whole)
        transform = resolve_request(wanted, whole)
        asked = asked._replace(wanted=Wanted("/".join(parts), transform))
        return await self._deliver(asked, source, await self._choose(asked, source))

    async def _measure(self, source: PictureSource) -> Size:
        """Return how large a picture is as it is seen, found out once. Raises ``PictureLateError``."""
        if (known := self._seen.get(source.digest)) is not None:
            return known
        subject = Subject(source.pool, source.digest.hex(), (await self._look(source)).frames > 1)
        step = order_picture(self._urls.common, subject, Transform(width=self._urls.ladder[0]), "base")
        found = await self._workshop.obtain(step)
        if found is None:
            raise _late()
        while len(self._seen) >= _LIMIT_SEEN:
            self._seen.pop(next(iter(self._seen)))
        self._seen[source.digest] = Size(*found.seen)
        return self._seen[source.digest]

    def _describe(self, scope: Scope, identifier: str, source: PictureSource, whole: Size) -> Response:
        base = self._public_url or f"{scope['scheme']}://{first_field(scope, b'host') or ''}"
        content = describe_service(f"{base}{encoded_prefix(scope)}/{identifier}", whole)
        is_linked = "application/ld+json" in (first_field(scope, b"accept") or "")
        fields = {name.decode(): value.decode("latin-1") for name, value in (*source.asset.cache_fields, *self._fields)}
        fields |= {"content-type": _LINKED if is_linked else _PLAIN, "vary": "Accept", "link": _LEVEL}
        return Response(json.dumps(content), 200, fields)

    def _dress(self, asset: Asset, *, varies: bool) -> Asset:
        dressed = super()._dress(asset, varies=varies)
        fields = (*(one for one in dressed.fields if one[0] != _ORIGIN[0]), _ORIGIN)
        return Asset(dressed.representations, cache_fields=dressed.cache_fields, fields=fields)

    async def _stand_in(self, asked: Asked, source: PictureSource, order: Order) -> Response:  # noqa: ARG002 - nothing does
        raise _late()


def _ask(scope: Scope, identifier: str) -> Asked:
    """Return a request for the picture ``identifier``, of which nothing else is known yet. Raises ``PictureMissingError``."""
    target = parse_target("/" + identifier.replace("%2F", "/").replace("%2f", "/"))
    if isinstance(target, RefusedTarget):
        raise PictureMissingError(f"there can be nothing with the identifier {identifier[:100]!r}: {target.reason}")
    return Asked(scope, Wanted("", Transform()), target, None, "base")


def _read_parts(parts: list[str]) -> ImageRequest:
    """Return what follows an identifier. Raises ``PictureMissingError`` for another number of parts, ``TransformError``."""
    if len(parts) != _PARTS:
        raise PictureMissingError(
            f"after {MOUNT}/ come IDENTIFIER/{_INFO[0]} or IDENTIFIER/REGION/SIZE/ROTATION/QUALITY.FORMAT; "
            "slashes of the identifier are written as %2F"
        )
    region, size, rotation, last = map(unquote, parts)
    quality, point, kind = last.partition(".")
    if not point:
        raise TransformError(f"{last[:100]!r} is no QUALITY.FORMAT; write default.jpg, for example")
    return ImageRequest(region[:100], size[:100], rotation[:100], quality[:100], kind[:100])


def _late() -> PictureLateError:
    return PictureLateError("the picture is being made; ask again in a moment")
