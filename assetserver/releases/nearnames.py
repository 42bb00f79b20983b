"""The file that was probably meant by a path that is not there. Pure, and bounded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from difflib import get_close_matches

from .hashlike import holds_hash

LIMIT_COMPARED = 500
"""Names of a folder that are compared letter by letter; a comparison takes about 20 µs."""

LIMIT_ASKED = 20
"""Questions that are answered by comparing; of more missing files nobody reads the hints."""


class NearNames:
    """Finds names near those of ``files``. Built on the first question: most releases miss nothing."""

    def __init__(self, files: Collection[str]) -> None:
        self._files = files
        self._by_folder: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        self._asked = 0

    def find(self, path: str) -> str | None:
        """Return a file in ``path``'s folder with the same name but for case, hash or a slip, or of the same name elsewhere.

        After ``LIMIT_ASKED`` questions always None.
        """
        self._asked += 1
        if self._asked > LIMIT_ASKED or not path or path.endswith("/"):
            return None
        if not self._by_folder:
            self._index()
        folder, _, name = path.rpartition("/")
        beside = self._by_folder.get(folder, [])
        found = _same_but_case(name, beside) or _same_but_hash(name, beside)
        if found is None:
            elsewhere = self._by_name.get(name.lower(), [])
            if elsewhere:
                return elsewhere[0]
            found = next(iter(get_close_matches(name, beside[:LIMIT_COMPARED], 1, 0.7)), None)
        return f"{folder}/{found}".lstrip("/") if found else None

    def _index(self) -> None:
        by_folder, by_name = defaultdict(list), defaultdict(list)
        for path in sorted(self._files):
            folder, _, name = path.rpartition("/")
            by_folder[folder].append(name)
            by_name[name.lower()].append(path)
        self._by_folder, self._by_name = by_folder, by_name


def _same_but_case(name: str, others: list[str]) -> str | None:
    wanted = name.lower()
    return next((one for one in others if one.lower() == wanted), None)


def _same_but_hash(name: str, others: list[str]) -> str | None:
    """Return the name with the same stem and extension and a hash between, whether or not ``name`` has one."""
    stem, _, extension = name.rpartition(".")
    if not extension:
        return None
    stems = [stem]
    if holds_hash(name):
        stems += [stem[:at] for at in range(len(stem) - 8, 0, -1) if stem[at] in "-._~"]
    for stem in filter(None, stems):
        for one in others:
            if one.endswith("." + extension) and one[: len(stem)] == stem and one[len(stem)] in "-._~" and holds_hash(one):
                return one
    return None
