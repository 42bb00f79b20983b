"""Our hashes beside those of the people who invented them."""

import json
import subprocess

import pytest
from PIL import Image

from assetserver.images.thumbhash import encode_thumbhash

SCRIPT = """
import * as hashes from "thumbhash";
const input = JSON.parse(process.argv[2]);
console.log(JSON.stringify(input.map(({width, height, rgba}) => {
  const hash = hashes.rgbaToThumbHash(width, height, Buffer.from(rgba, "hex"));
  return Buffer.from(hash).toString("hex");
})));
"""


@pytest.fixture(scope="module")
def samples() -> list[Image.Image]:
    wide = Image.linear_gradient("L").resize((32, 21))
    photo = Image.merge(
        "RGBA", (wide, wide.rotate(180), Image.radial_gradient("L").resize((32, 21)), Image.new("L", (32, 21), 255))
    )
    tall = photo.transpose(Image.Transpose.TRANSPOSE)
    clear = photo.copy()
    clear.putalpha(wide)
    return [photo, tall, clear, Image.new("RGBA", (1, 1), "teal"), Image.new("RGBA", (5, 3), (0, 0, 0, 0))]


def test_the_reference_makes_the_same_hashes(samples, install_npm, require):
    folder = install_npm("thumbhash@0.1.1")
    (folder / "hash.mjs").write_text(SCRIPT)
    asked = [{"width": one.width, "height": one.height, "rgba": one.tobytes().hex()} for one in samples]
    done = subprocess.run(
        [require("node"), "hash.mjs", json.dumps(asked)], cwd=folder, check=True, capture_output=True, timeout=60
    )
    ours = [encode_thumbhash(*one.size, one.tobytes()).hex() for one in samples]
    for found, wanted in zip(ours, json.loads(done.stdout), strict=True):
        steps = [abs(int(one, 16) - int(other, 16)) for one, other in zip(found, wanted, strict=True)]
        assert not any(steps[:10]), "colours, scales and proportions"
        assert max(steps) <= 1, "cosines: sums are rounded in another order"
