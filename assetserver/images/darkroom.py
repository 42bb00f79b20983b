"""The work of a child: one picture decoded once, and everything that its plan asks for made of it.

It reads an open file, writes into an open folder, and answers with a ``Picture``, a ``Refusal`` or a ``Failure``. Nothing here
decides what is allowed: the limits of the process do, and what was read of the header before.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from PIL import Image, ImageFilter

from assetserver.errors import PictureRefusedError

from .animation import cascade_frames, count_loops, read_frames
from .colour import take_colours, to_srgb
from .decoding import Opened, explain, open_picture
from .encoding import Printer, flatten
from .geometry import Box, Layout, Size, choose_widths, cut_shape, lay_out, turn
from .placeholder import make_placeholder
from .plan import Answer, Failure, Order, OutputFormat, Picture, Plan, Refusal, Variant
from .scaling import cascade, cut_frame, find_crop, restore, scale
from .transform import LIMIT_SIDE, Transform

_OPAQUE = 255


def develop(order: bytes, source: int, folder: int) -> bytes:
    """Do what ``order`` says (JSON) with the picture behind the descriptor ``source``; return the ``Answer`` as JSON."""
    warnings.simplefilter("ignore")
    return msgspec.json.encode(_try(msgspec.json.decode(order, type=Order), source, folder))


def _try(order: Order, source: int, folder: int) -> Answer:
    try:
        with os.fdopen(source, "rb") as file:
            opened = open_picture(file, order.format, order.pixels, order.frames)
            return _Job(opened, order, folder).run()
    except PictureRefusedError as error:
        return Refusal(error.reason)
    except MemoryError:
        return Failure("the picture needs more memory than a process may have")
    except Exception as error:  # noqa: BLE001 - encoders raise anything; the answer says what, and the job is tried again
        return Failure(f"the picture could not be written: {type(error).__name__}: {explain(error)}")


class Step(NamedTuple):
    """One size that is made: the transform at this width, and what it means for this picture."""

    transform: Transform
    layout: Layout


class _Job:
    """One picture, from its header to its variants."""

    def __init__(self, opened: Opened, order: Order, folder: int) -> None:
        self._opened = opened
        self._plan = order.plan
        self._format = order.format
        self._folder = folder
        try:
            self._steps = plan_steps(opened.size, order.plan)
        except ValueError as error:
            raise PictureRefusedError(str(error)) from error
        self._sizes = [step.layout.scaled for step in self._steps]
        self._crop: Box | None = None
        self._profile = b""

    def run(self) -> Picture:
        opened, plan = self._opened, self._plan
        moves = opened.frames > 1 and plan.transform.anim
        first = self._prepare(opened.load(self._choose_needed()))
        has_alpha = first.mode == "RGBA"
        printer = self._load_printer()
        formats = choose_formats(plan, is_drawn=has_alpha or opened.is_palette, moves=moves)
        variants: list[Variant] = []
        shown = first
        for step, image in zip(self._steps, cascade(first, self._sizes), strict=True):
            shown = finish(image, step)
            variants += [printer.save(shown, kind) for kind in formats]
        placeholder = make_placeholder(shown) if plan.has_placeholder else None
        if moves and "webp" in plan.formats:
            variants += self._animate(printer)
        return Picture(
            width=opened.size.width,
            height=opened.size.height,
            format=self._format,
            frames=opened.frames,
            has_alpha=has_alpha,
            variants=tuple(variants),
            placeholder=placeholder,
            notes=tuple(opened.notes),
        )

    def _prepare(self, image: Image.Image) -> Image.Image:
        """Return a decoded picture, cut, in the largest size that is made of it, RGB or RGBA. Frames are cut as the first."""
        transform, layout = self._steps[0]
        image = cut_frame(image, self._opened.size, transform)
        if transform.fit == "cover":
            shape = cut_shape(Size(*image.size), layout.shape)
            self._crop = self._crop or find_crop(image, shape, transform.focus)
            image = image.crop(self._crop)
        ratio, is_reduced = image.width / layout.scaled.width, self._opened.is_reduced
        image = scale(image, layout.scaled)
        image = restore(image, ratio) if is_reduced else image
        image, self._profile, note = to_srgb(image, self._opened.profile, keeps_gamut=self._plan.keeps_gamut)
        if note and note not in self._opened.notes:
            self._opened.notes.append(note)
        if image.mode == "RGBA" and (transform.background or image.getchannel("A").getextrema()[0] == _OPAQUE):
            image = flatten(image, transform.background)
        return image

    def _choose_needed(self) -> Size:
        """Return how large the whole picture must be for what is cut out of it to be as large as it will be shown."""
        size, (transform, layout) = self._opened.size, self._steps[0]
        scaled, shape = turn(layout.scaled, transform.rotate), turn(layout.shape, transform.rotate)
        return Size(-(-size.width * scaled.width // shape.width), -(-size.height * scaled.height // shape.height))

    def _animate(self, printer: Printer) -> Iterator[Variant]:
        frames, durations_ms = read_frames(self._opened, self._prepare)
        for step, images in zip(self._steps, cascade_frames(frames, self._sizes), strict=True):
            shown = [finish(image, step) for image in images]
            yield printer.save_animation(shown, durations_ms, count_loops(self._opened))

    def _load_printer(self) -> Printer:
        transform = self._plan.transform
        return Printer(
            folder=self._folder,
            qualities=self._plan.qualities,
            quality=transform.quality,
            background=transform.background,
            is_palette=self._opened.is_palette,
            exif=self._opened.credit() if transform.metadata == "copyright" else b"",
            profile=self._profile,
        )


def plan_steps(size: Size, plan: Plan) -> list[Step]:
    """Return what is made of a picture of ``size``, largest first, no size twice."""
    transform = plan.transform
    shape = lay_out(size, transform).shape
    steps = {}
    for width in choose_widths(shape.width, plan.widths) if plan.widths else (transform.width,):
        at_width = transform
        if plan.widths:
            height = max(1, round(transform.height * width / transform.width)) if transform.fit != "scale-down" else 0
            at_width = msgspec.structs.replace(transform, width=min(LIMIT_SIDE, width), height=min(LIMIT_SIDE, height))
        layout = lay_out(size, at_width)
        steps[layout.canvas] = Step(at_width, layout)
    return sorted(steps.values(), key=lambda step: step.layout.scaled, reverse=True)


def choose_formats(plan: Plan, *, is_drawn: bool, moves: bool) -> list[OutputFormat]:
    """Return the formats of stills. What is drawn, with transparency or a palette, is PNG where a photograph is JPEG.

    What moves has no still WebP, and no AVIF: clients would take that before the WebP that moves.
    """
    base: OutputFormat = "png" if is_drawn else "jpeg"
    chosen = [base if kind == "base" else kind for kind in plan.formats if not (moves and kind in ("webp", "avif"))]
    return list(dict.fromkeys(chosen))


def finish(image: Image.Image, step: Step) -> Image.Image:
    """Return a scaled picture blurred, without colours, and on its canvas, as its transform wants."""
    transform, (_, scaled, canvas) = step
    if transform.blur:
        mode = image.mode
        image = image.convert("RGBa") if mode == "RGBA" else image  # premultiplied, or transparent pixels would bleed
        image = image.filter(ImageFilter.GaussianBlur(transform.blur)).convert(mode)
    if transform.tone:
        image = take_colours(image, is_bitonal=transform.tone == "bitonal")
    if canvas == scaled:
        return image
    empty = f"#{transform.background or 'ffffff'}" if image.mode == "RGB" else (0, 0, 0, 0)
    ground = Image.new(image.mode, canvas, empty)
    ground.paste(image, ((canvas.width - scaled.width) // 2, (canvas.height - scaled.height) // 2))
    return ground
