"""What changes for caches in front when one release takes the place of another. Pure.

Fingerprinted names that come or go change nothing: what they named stays reachable, and misses of such names are not kept.
Where rules changed, or the page that answers unknown paths, any URL may have: then everything has.
"""

from __future__ import annotations

from collections.abc import Iterator

from assetserver.releases.manifest import Manifest


def find_changes(before: Manifest, after: Manifest, fallback: str = "") -> frozenset[str] | None:
    """Return the paths of files whose answers are not the same in both releases, or None if any URL's may be.

    ``fallback``: the file that answers unknown paths, "" for none.
    """
    if before.rules != after.rules:
        return None
    changed = frozenset(_walk(before, after))
    return None if fallback in changed else changed


def _walk(before: Manifest, after: Manifest) -> Iterator[str]:
    for path in before.files.keys() | after.files.keys():
        old, new = before.files.get(path), after.files.get(path)
        if old is None or new is None:
            record = old or new
            if record is not None and not record.fingerprint:
                yield path
        elif old.digest != new.digest or before.links.get(path) != after.links.get(path):
            yield path
