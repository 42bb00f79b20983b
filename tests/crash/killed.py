"""Publish a folder and activate it, and die before the durable step with the given number: run as a program.

Arguments: data folder, folder to publish, number (0 to live and print how many steps there were).
"""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from assetserver.releases import crew, publish, storing
from assetserver.releases.activation import activate_release, keep_release
from assetserver.releases.library import Library
from assetserver.releases.sites import visited_releases
from assetserver.storage.files import FileBlobs

STEPS = ("fsync", "link", "replace")

_taken = 0
_lock = threading.Lock()


def count_steps(last: int) -> None:
    """Have this process die, as ``kill -9`` would have it, before step ``last``."""

    def watch(real: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **keywords: object) -> object:
            global _taken  # noqa: PLW0603 - a program of one run
            with _lock:
                _taken += 1
                if _taken == last:
                    os._exit(137)
                return real(*args, **keywords)

        return step

    for name in STEPS:
        setattr(os, name, watch(getattr(os, name)))


def publish_and_activate(data: str, folder: str) -> str:
    """Publish to the site ``main`` and return the release's id."""
    library = Library(data, FileBlobs(os.path.join(data, "blobs")))
    site = library.site("main")
    release = publish.publish_folder(library, folder, lambda *_: None, before=visited_releases(site.read())).release
    keep_release(library, site, release)
    activate_release(library, site, release)
    return release


def main() -> None:
    """Run as told by the arguments."""
    data, folder, last = sys.argv[1:]
    crew._open_pool = lambda workers, **_: ThreadPoolExecutor(workers)  # so that its steps count here
    storing.SETTLED_NS = -(1 << 62)  # what was seen is remembered in every run, however long ago the files were written
    count_steps(int(last))
    publish_and_activate(data, folder)
    sys.stdout.write(f"{_taken}\n")


if __name__ == "__main__":
    main()
