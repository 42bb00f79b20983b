"""URLs of pictures on demand: what ``/image/OPTIONS/PATH`` asks for, and who may ask for it. Values only.

Laws:
- One picture, one spelling: whatever else means the same leads there.
- Without a signature there is a bounded number of pictures of each source: widths of the ladder, the handful of formats, and
  what presets name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import NamedTuple, get_args

from .errors import SettingsError, TransformError
from .images.transform import Format, Metadata, Transform, check_ladder, parse_transform, snap_width
from .settings import Settings
from .studios import common_plan

MOUNT = "/image"

_PRESET = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_AS_IT_IS = "format=auto"
"""How options are written that change nothing."""
_FORMAT = "format="


class Wanted(NamedTuple):
    """What options ask for, and their one spelling. ``is_free``: an operator has named it, so everybody may."""

    options: str
    transform: Transform
    is_free: bool = False


class PictureUrls:
    """The options that these settings know. Raises ``SettingsError`` for a preset that is none.

    ``common`` is what they say of every picture, whatever is asked for.
    """

    def __init__(self, settings: Settings) -> None:
        images = settings.images
        self.common = common_plan(images)
        self.ladder = tuple(sorted(set(images.widths)))
        self._snaps = images.off_ladder == "snap"
        self._presets = dict(_read_presets(settings))

    def are_options(self, segment: str) -> bool:
        """Tell whether a segment of a path, as sent, means options: else it is the name of somebody's folder."""
        return "=" in segment or segment.partition(",")[0] in self._presets

    def read(self, segment: str) -> Wanted:
        """Return what options, as sent, ask for. Raises ``TransformError``."""
        name, _, more = segment.partition(",")
        if name not in self._presets:
            transform = parse_transform(segment)
            return Wanted(transform.canonical or _AS_IT_IS, transform)
        preset = self._presets[name]
        if not more:
            return Wanted(name, preset, is_free=True)
        changed = parse_transform(more)
        if not more.startswith(_FORMAT) or changed.canonical not in ("", more):
            raise TransformError(f"the preset {name} can be followed by {_FORMAT} alone, as in {name},{_FORMAT}webp")
        transform = parse_transform(",".join(filter(None, (_without_format(preset), more))))
        return Wanted(f"{name},{changed.canonical or _AS_IT_IS}", transform, is_free=True)

    def list_free(self) -> Iterator[str]:
        """Yield all options that need no signature, each in its one spelling: what caches may have of a source."""
        yield from _free_options(self.ladder)
        for name in self._presets:
            yield name
            yield from (f"{name},{_FORMAT}{one}" for one in get_args(Format))

    def admit(self, wanted: Wanted) -> Wanted:
        """Return what is given to somebody without a signature: another width, perhaps. Raises ``TransformError``."""
        if wanted.is_free:
            return wanted
        transform = snap_width(wanted.transform, self.ladder) if self._snaps else wanted.transform
        try:
            check_ladder(transform, self.ladder)
        except TransformError as error:
            raise TransformError(
                f"{error}; `assetserver sign {MOUNT}/…` makes one, or images.presets names what is usual"
            ) from error
        return Wanted(transform.canonical, transform)


def _free_options(ladder: Iterable[int]) -> Iterator[str]:
    """Yield what ``check_ladder`` lets everybody ask for, as it is spelled."""
    choices = (ladder, get_args(Format), get_args(Metadata), (True, False), ("", "redirect"))
    for width, form, metadata, anim, onerror in product(*choices):
        yield Transform(width=width, format=form, metadata=metadata, anim=anim, onerror=onerror).canonical


def _read_presets(settings: Settings) -> Mapping[str, Transform]:
    presets = {}
    for name, options in settings.images.presets.items():
        place = settings.locate("images", "presets", name)
        if not _PRESET.fullmatch(name):
            raise SettingsError(f"{place}: a preset cannot be called {name!r}; take letters, digits, - and _")
        try:
            presets[name] = parse_transform(options)
        except TransformError as error:
            raise SettingsError(f"{place}: images.presets.{name}: {error}") from error
    return presets


def _without_format(transform: Transform) -> str:
    return ",".join(one for one in transform.canonical.split(",") if not one.startswith(_FORMAT))
