"""Activate a release and order the purges that it owes, and die before a durable step: run as a program.

Arguments: data folder, the id of a release, number (0 to live and print how many steps there were).
"""

import sys

if __package__:
    from . import killed
else:
    import killed

from contextlib import closing

from assetserver.data import open_library, open_records
from assetserver.purgeorders import PurgeDebts
from assetserver.releases.activation import activate_release
from assetserver.releases.manifest import ReleaseId
from assetserver.settings import Settings, load_settings


def settings_of(data: str) -> Settings:
    """Return settings with a cache in front of the site ``main``."""
    cache = {"name": "edge", "service": "varnish", "url": "http://127.0.0.1:1", "origins": ["http://a.example"]}
    return load_settings(overrides={"data.path": data, "sites": [{"name": "main"}], "purge": [cache]})


def settle(settings: Settings) -> int:
    """Do what a worker does with what is owed."""
    with closing(open_records(settings)) as records:
        return PurgeDebts(settings, open_library(settings), records).settle()


def main() -> None:
    """Run as told by the arguments."""
    data, release, last = sys.argv[1:]
    killed.count_steps(int(last))
    settings = settings_of(data)
    library = open_library(settings)
    activate_release(library, library.site("main"), ReleaseId(release), owes_purge=True)
    settle(settings)
    sys.stdout.write(f"{killed._taken}\n")


if __name__ == "__main__":
    main()
