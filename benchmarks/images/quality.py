"""SSIMULACRA2 of resized pictures against LANCZOS in floating point from all pixels, as JSON on stdout.

Runs in the benchmarks' own environment: ``quality.py SOURCE FOLDER``, where FOLDER has what is judged as ``WIDTH-HEIGHT.png``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

import numpy as np
from PIL import Image
from ssimulacra2 import compute_ssimulacra2


def main() -> None:
    """Judge every PNG of the folder."""
    source, folder = sys.argv[1:]
    channels = [channel.convert("F") for channel in Image.open(source).convert("RGB").split()]
    scores = {}
    for name in sorted(os.listdir(folder)):
        width, height = map(int, name.removesuffix(".png").split("-"))
        planes = [np.asarray(channel.resize((width, height), Image.Resampling.LANCZOS)) for channel in channels]
        exact = Image.fromarray(np.clip(np.rint(np.stack(planes, axis=2)), 0, 255).astype("uint8"))
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            exact.save(file.name)
            scores[str(width)] = float(compute_ssimulacra2(file.name, os.path.join(folder, name)))
    print(json.dumps(scores))


main()
