"""Every test image of Pillow's own, from its source package: each ends as a picture or with a reason, in time."""

import subprocess
import sys
import tarfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import pytest

from assetserver.errors import PictureRefusedError
from assetserver.images.plan import Plan


@pytest.fixture(scope="module")
def corpus(missing, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pillow")
    release = f"pillow=={version('pillow')}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "pillow", release, "-d", folder]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=100, text=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        missing(f"the source package of {release} ({(error.stderr or str(error))[-200:]})")
    (package,) = folder.glob("*.tar.gz")
    with tarfile.open(package) as archive:
        archive.extractall(
            folder, [one for one in archive.getmembers() if "/Tests/images/" in one.name and one.isfile()], filter="data"
        )
    return sorted(path for path in folder.rglob("Tests/images/**/*") if path.is_file())


@pytest.mark.timeout(400)
def test_every_image_is_made_or_refused(corpus, make):
    def attempt(path) -> tuple[str, str]:
        try:
            made = make(path, Plan(widths=(160, 320)))
        except PictureRefusedError as error:
            return "refused", error.reason
        return "made", "" if made.picture.variants else "nothing"

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(attempt, corpus))
    counts = Counter(kind for kind, _ in outcomes)
    assert counts["made"] + counts["refused"] == len(corpus) > 1000
    assert counts["made"] > 500
    assert all(reason for kind, reason in outcomes if kind == "refused")
    assert ("made", "nothing") not in outcomes
