"""A line that shows how far something long is."""

from __future__ import annotations

import shutil
import sys
import time

import click

from .wording import in_units

_BAR = 24
_REFRESH_S = 0.1
_WORTH_SAYING_S = 1
_MINUTE_S = 60


class Progress:
    """A line that shows how far something long is, and how long it will take; only where someone can see it."""

    def __init__(self) -> None:
        self._what = ""
        self._begun_s = time.monotonic()
        self._shown_s = 0.0
        self._is_shown = sys.stderr.isatty()

    def __call__(self, what: str, size: int, total: int, files: int = 0, all_files: int = 0) -> None:
        """Show that ``size`` of ``total`` bytes, and ``files`` of ``all_files``, are ``what``."""
        now_s = time.monotonic()
        if what != self._what:
            self._what, self._begun_s = what, now_s
        if not self._is_shown or (now_s - self._shown_s < _REFRESH_S and size < total):
            return
        self._shown_s = now_s
        share = size / total if total else 1
        counts = [f"{files:,} of {all_files:,} files"] if all_files else []
        fields = [*counts, f"{in_units(size)} of {in_units(total)}", *_time_left(now_s - self._begun_s, share)]
        line = format_progress(what, share, fields, shutil.get_terminal_size().columns - 1)
        click.echo(f"\r{line}\x1b[K", err=True, nl=False)

    def finish(self) -> None:
        """Clear the line."""
        if self._is_shown:
            click.echo("\r\x1b[K", err=True, nl=False)


def format_progress(what: str, share: float, fields: list[str], width: int) -> str:
    """Return a line of at most ``width`` characters that says that a ``share`` (0 to 1) is done.

    Where it is narrow the first of ``fields`` go, then the bar, none of them in half.
    """
    bar = ("━" * int(share * _BAR)).ljust(_BAR, "─")
    lines = [f"{what:<11} {bar} {share:4.0%}  {', '.join(fields[count:])}".rstrip() for count in range(len(fields) + 1)]
    lines.append(f"{what} {share:.0%}")
    return next((line for line in lines if len(line) <= width), "")


def _time_left(spent_s: float, share: float) -> list[str]:
    """Return how long the rest will take, if the first second has shown it and it is worth saying."""
    if spent_s < _WORTH_SAYING_S or not 0 < share < 1:
        return []
    left_s = spent_s / share - spent_s
    return [f"{int(left_s // 60)} min {int(left_s % 60)} s left" if left_s >= _MINUTE_S else f"{left_s:.0f} s left"]
