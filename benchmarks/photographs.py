"""Photographs to make small: those with which the goals were set, and a calmer one.

Each is cut to its shape and given a camera's noise, as there.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from machine import say
from peers import NODE
from PIL import Image, ImageChops

QUALITY = 92


class Photograph(NamedTuple):
    """A file, how strong the noise of the camera is, and who has it."""

    path: str
    noise: int
    origin: str


TEXTURED = Photograph("/usr/share/backgrounds/mate/abstract/Elephants_5640x3172.jpg", 1, "Debian package mate-backgrounds")
"""All of it is texture: the 24 megapixels of the goals."""
USUAL = Photograph(os.path.join(NODE, "2569067123_aca715a2ee_o.jpg"), 2, "a test of sharp 0.1.0; benchmarks/install.py")
"""The 12 megapixels of the goals."""
PLAIN = Photograph("/usr/share/backgrounds/mate/nature/Wood.jpg", 2, "Debian package mate-backgrounds")
"""Most of it is out of focus."""


def make_photograph(path: str, size: tuple[int, int], source: Photograph = TEXTURED) -> str:
    """Write a photograph of ``size``; of an artificial picture where it is missing. Return its path."""
    if os.path.exists(source.path):
        image = Image.open(source.path).convert("RGB")
    else:
        say(f"no photograph is installed ({source.origin}): an artificial picture stands in for it")
        image = Image.effect_mandelbrot((3000, 2000), (-2, -1.2, 1, 1.2), 90).convert("RGB")
    factor = min(image.width / size[0], image.height / size[1])
    cut = (round(size[0] * factor), round(size[1] * factor))
    left, top = (image.width - cut[0]) // 2, (image.height - cut[1]) // 2
    image = image.crop((left, top, left + cut[0], top + cut[1])).resize(size, Image.Resampling.LANCZOS)
    noisy = [ImageChops.add(channel, Image.effect_noise(size, source.noise), 1, -128) for channel in image.split()]
    Image.merge("RGB", noisy).save(path, quality=QUALITY)
    return path
