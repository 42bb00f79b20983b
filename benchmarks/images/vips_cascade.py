"""A pyvips cascade with the encoder settings of assetserver: its processor time in seconds, as JSON on stdout.

Runs in the benchmarks' own environment: ``vips_cascade.py SOURCE FOLDER WIDTH…``, widths descending. Its start does not
count.
"""

from __future__ import annotations

import json
import os
import sys
import time

import pyvips


def main() -> None:
    """Make all widths in three formats."""
    source, folder, *widths = sys.argv[1:]
    begun_s = time.process_time()
    image = pyvips.Image.thumbnail(source, int(widths[0]), height=10_000_000).copy_memory()
    for width in map(int, widths):
        if width != image.width:
            image = image.resize(width / image.width, kernel="lanczos3").copy_memory()
        name = os.path.join(folder, str(width))
        image.jpegsave(name + ".jpg", Q=80, optimize_coding=True, interlace=True, keep="none")
        image.webpsave(name + ".webp", Q=85, effort=4, keep="none")
        image.heifsave(name + ".avif", Q=68, effort=1, compression="av1", keep="none")
    print(json.dumps({"cpu_s": time.process_time() - begun_s}))


main()
