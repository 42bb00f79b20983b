"""The table of settings of pictures; all others are in ``settingtables``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from .settingforms import GIB, IMAGE_FORMAT, MIB, OPTIONS, PATH, TIB, Table, about


class ImageSettings(Table, frozen=True, kw_only=True):
    """``[images]``: what is made of uploaded pictures, in the background, and of all on demand."""

    enabled: Annotated[bool, about("Make smaller ones of uploaded pictures.")] = True
    on_demand: Annotated[bool, about("Serve what clients ask for as /image/OPTIONS/PATH, such as /image/width=640/a.jpg.")] = (
        False
    )
    widths: Annotated[tuple[int, ...], about("Widths in pixels; nothing is ever enlarged.", ge=1, le=4096)] = (
        320,
        640,
        960,
        1280,
        1920,
    )
    formats: Annotated[
        tuple[str, ...], about("Formats beside JPEG, or PNG where it is transparent, which all browsers know.", IMAGE_FORMAT)
    ] = ("webp", "avif")
    jpeg_quality: Annotated[int, about("Quality of JPEG.", ge=1, le=100)] = 80
    webp_quality: Annotated[int, about("Quality of WebP.", ge=1, le=100)] = 85
    avif_quality: Annotated[int, about("Quality of AVIF.", ge=1, le=100)] = 68
    keep_copyright: Annotated[bool, about("Keep who made a picture and whose it is; all else is left out.")] = False
    wide_gamut: Annotated[bool, about("Keep colours beyond sRGB, with their profile.")] = False
    limit_bytes: Annotated[int, about("Larger files are left as they are.", ge=1, le=GIB)] = 64 * MIB
    limit_megapixels: Annotated[int, about("Larger pictures are left as they are.", ge=1, le=250)] = 50
    concurrent: Annotated[
        int, about("Pictures made at once by each worker that does jobs, in processes of their own.", ge=1, le=64)
    ] = 2
    off_ladder: Annotated[
        Literal["snap", "refuse"], about("What becomes of other widths without a signature: the next one up, or 400.")
    ] = "snap"
    iiif: Annotated[
        bool,
        about("Serve it by the IIIF Image API 3 as well, at /iiif/3/: any region and size, for everybody."),
    ] = False
    signed: Annotated[bool, about("Serve them to signed URLs alone, as `assetserver sign` makes them.")] = False
    presets: Annotated[dict[str, str], about("Options by name: /image/NAME/PATH. Any may stand here.", OPTIONS)] = (
        msgspec.field(default_factory=dict)
    )
    patience_s: Annotated[float, about("How long a first request waits before it gets a larger picture.", ge=0, le=10)] = 2.0
    queue_limit: Annotated[int, about("Most pictures that wait to be made on demand; then 503.", ge=1, le=100_000)] = 200
    at_once: Annotated[int, about("Most pictures that a job worker makes at once on demand.", ge=1, le=64)] = 2
    cache_directory: Annotated[
        str, about("Folder of what was made, shared with job workers; empty for cache/images in the data folder.", PATH)
    ] = ""
    cache_limit_bytes: Annotated[int, about("Most bytes of that kept; what was not used for longest goes.", ge=MIB, le=TIB)] = (
        GIB
    )
