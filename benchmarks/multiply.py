"""Make a release of more files than can be published: as many names as wanted for the contents of a published release.

    python benchmarks/multiply.py DATA COUNT

A folder may hold 200,000 files; what a worker serves has no such limit. Scanning and hashing are left out, since the contents
are there; manifest, index and state are written and checked by the package, as publishing does it.
"""

from __future__ import annotations

import os
import sys

from sites import path_of

from assetserver.releases.activation import activate_release, keep_release
from assetserver.releases.library import Library
from assetserver.releases.manifest import Manifest
from assetserver.storage.files import FileBlobs


def multiply(data: str, count: int) -> None:
    """Activate a release of ``count`` names of the contents that the active release has, taken in turn."""
    library = Library(data, FileBlobs(os.path.join(data, "blobs")))
    site = library.site("default")
    active = site.read().active
    if active is None:
        raise SystemExit(f"nothing is active in {data}")
    files = library.load_manifest(active).files
    records = [files[path_of(number)] for number in range(len(files))]
    manifest = Manifest({path_of(number): records[number % len(records)] for number in range(count)})
    library.save_manifest(manifest)
    keep_release(library, site, manifest.id)
    activate_release(library, site, manifest.id)


if __name__ == "__main__":
    multiply(sys.argv[1], int(sys.argv[2]))
