"""The studio of a process: which pictures these settings let in, how many pixels at once, and how all of them are made.

It matters to nobody who wants a picture: uploads, visitors and releases get the same of the same.
"""

from __future__ import annotations

from .images.admission import MEGAPIXEL, Limits
from .images.plan import Plan, Qualities
from .images.studio import Studio
from .images.transform import Transform
from .settingtables import ImageSettings

_ROUNDS = 4
"""Of full length, that a job may take: what is in work when it comes, twice what came before it, and its own."""
_MARGIN_S = 60.0


def open_studio(images: ImageSettings) -> Studio:
    """Return the studio that a process needs once, for memory is counted in it. Nothing is started before it is needed."""
    pixels = images.limit_megapixels * MEGAPIXEL
    limits = Limits(source_bytes=images.limit_bytes, pixels=pixels)
    largest = max(pixels, limits.animation_pixels)
    return Studio(limits, pixels_in_flight=max(images.concurrent, images.at_once) * largest)


def common_plan(images: ImageSettings) -> Plan:
    """Return what these settings say of every picture: qualities, colours, copyright. Which ones to make is added to it."""
    return Plan(
        transform=Transform(metadata="copyright" if images.keep_copyright else "none"),
        qualities=Qualities(jpeg=images.jpeg_quality, webp=images.webp_quality, avif=images.avif_quality),
        keeps_gamut=images.wide_gamut,
    )


def longest_job_s(studio: Studio) -> float:
    """Return how long a job may take that waits in the studio for others, in seconds; beyond that it is stuck."""
    return _ROUNDS * studio.limits.wall_s + _MARGIN_S
