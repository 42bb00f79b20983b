"""Photographs to make small: cut from one of Debian's mate-backgrounds, with a camera's noise."""

from __future__ import annotations

import os

from machine import say
from peers import PHOTOGRAPH
from PIL import Image, ImageChops

NOISE = 2
QUALITY = 92


def make_photograph(path: str, size: tuple[int, int], source: str = PHOTOGRAPH) -> str:
    """Write a photograph of ``size``, noisy as a camera's; of an artificial picture where there is none. Return its path."""
    if os.path.exists(source):
        image = Image.open(source).convert("RGB")
    else:
        say("no photograph is installed (Debian package mate-backgrounds): an artificial picture stands in for it")
        image = Image.effect_mandelbrot((3000, 2000), (-2, -1.2, 1, 1.2), 90).convert("RGB")
    factor = min(image.width / size[0], image.height / size[1])
    cut = (round(size[0] * factor), round(size[1] * factor))
    left, top = (image.width - cut[0]) // 2, (image.height - cut[1]) // 2
    image = image.crop((left, top, left + cut[0], top + cut[1])).resize(size, Image.Resampling.LANCZOS)
    noisy = [ImageChops.add(channel, Image.effect_noise(size, NOISE), 1, -128) for channel in image.split()]
    Image.merge("RGB", noisy).save(path, quality=QUALITY)
    return path
