"""What a server told at one moment, read again; and what went on between two moments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Series = Mapping[tuple[tuple[str, str], ...], float]


class Snapshot(NamedTuple):
    """All series by name, as they were ``at_s`` (seconds of a clock that never goes back)."""

    at_s: float
    series: Mapping[str, Series]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the series of ``assetserver_NAME`` that have these labels."""
        wanted = labels.items()
        return sum(value for known, value in self._of(name).items() if wanted <= dict(known).items())

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return the sums for each value of ``label``, of series that have the other ``labels``."""
        found: dict[str, float] = {}
        for known, value in self._of(name).items():
            values = dict(known)
            if labels.items() <= values.items():
                found[values[label]] = found.get(values[label], 0.0) + value
        return found

    def _of(self, name: str) -> Series:
        known = self.series.get(f"assetserver_{name}")
        return self.series.get(name, {}) if known is None else known


def parse_snapshot(text: str, at_s: float) -> Snapshot:
    """Return what ``exposition.render`` wrote; what is not of that form is left out."""
    series: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for name, labels, value in _LINE.findall(text):
        try:
            number = float(value)
        except ValueError:
            continue
        series.setdefault(name, {})[tuple(_LABEL.findall(labels))] = number
    return Snapshot(at_s, series)


class Rates(NamedTuple):
    """What went on between two snapshots, per second; after a server was started anew, since then."""

    before: Snapshot
    now: Snapshot

    @property
    def duration_s(self) -> float:
        """How long that was."""
        return max(self.now.at_s - self.before.at_s, 1e-9)

    def total(self, name: str, **labels: str) -> float:
        """Return how fast the sum of series grew."""
        now, before = self.now.total(name, **labels), self.before.total(name, **labels)
        return (now - before if now >= before else now) / self.duration_s

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return how fast the sum for each value of ``label`` grew; those that did not are left out."""
        before, grown = self.before.by(name, label, **labels), {}
        for value, count in self.now.by(name, label, **labels).items():
            earlier = before.get(value, 0.0)
            grown[value] = (count - earlier if count >= earlier else count) / self.duration_s
        return {value: rate for value, rate in grown.items() if rate > 0}
