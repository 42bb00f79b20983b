"""Collect, or activate a release, and die before the durable step with the given number: run as a program.

Arguments: data folder, "collect" or the id of a release, number (0 to live and print how many steps there were).
"""

import os
import sys

if __package__:
    from . import killed
else:
    import killed

from assetserver.releases.activation import activate_release
from assetserver.releases.collect import Retention, collect
from assetserver.releases.library import Library
from assetserver.releases.manifest import ReleaseId
from assetserver.storage.files import FileBlobs

STEPS = (*killed.STEPS, "unlink")
"""Removing is what a collection does; that it is made durable later must not matter."""


def open_library(data: str) -> Library:
    """Return the releases in the folder ``data``."""
    return Library(data, FileBlobs(os.path.join(data, "blobs")))


def run_upkeep(data: str, what: str) -> None:
    """Keep nothing old, or serve the release ``what`` at the site ``main``."""
    library = open_library(data)
    if what == "collect":
        collect(library, Retention(0, 0), grace_s=0)
    else:
        activate_release(library, library.site("main"), ReleaseId(what))


def main() -> None:
    """Run as told by the arguments."""
    data, what, last = sys.argv[1:]
    killed.STEPS = STEPS
    killed.count_steps(int(last))
    run_upkeep(data, what)
    sys.stdout.write(f"{killed._taken}\n")


if __name__ == "__main__":
    main()
