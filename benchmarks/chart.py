"""A bar chart as SVG: one bar per row, in groups, with lines at the goals; readable on light and dark grounds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

LABEL_PX, PLOT_PX, ROW_PX, TOP_PX, RIGHT_PX = 330, 400, 22, 54, 70

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f; }
  .title { font-size: 15px; font-weight: 600; }
  .group { font-weight: 600; }
  .faint { fill: #57606a; font-size: 12px; }
  .number { stroke: #ffffff; stroke-width: 4px; paint-order: stroke; }
  .met { fill: #2da44e; } .missed { fill: #d4762c; } .plain { fill: #8c959f; }
  .line { stroke: #57606a; stroke-dasharray: 4 3; } .spread { stroke: #24292f; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .faint { fill: #9198a1; }
    .number { stroke: #0d1117; }
    .met { fill: #3fb950; } .missed { fill: #e09b4d; } .plain { fill: #6e7681; }
    .line { stroke: #9198a1; } .spread { stroke: #e6edf3; }
  }
"""


class Bar(NamedTuple):
    """A ratio: median, least and greatest, and whether it is at its goal, None where it has none."""

    label: str
    ratio: float
    least: float
    greatest: float
    is_met: bool | None


class Group(NamedTuple):
    """Bars that belong together, under a heading."""

    heading: str
    bars: Sequence[Bar]


class Chart:
    """The chart: bars longer than ``limit`` are cut, and their number says how long they are; lines stand at ``goals``."""

    def __init__(self, title: str, groups: Sequence[Group], goals: Sequence[float], limit: float = 2.0) -> None:
        self._title = title
        self._groups = [group for group in groups if group.bars]
        self._goals = goals
        self._limit = limit

    def draw(self) -> str:
        """Return the text of an SVG file."""
        parts: list[str] = []
        top = TOP_PX
        for group in self._groups:
            if len(self._groups) > 1:
                parts.append(
                    f'<text class="group" x="{LABEL_PX - 8}" y="{top + 15}" text-anchor="end">{escape(group.heading)}</text>'
                )
                top += ROW_PX
            for bar in group.bars:
                parts.append(self._draw_bar(bar, top))
                top += ROW_PX
            top += 6
        height, width = top + 6, LABEL_PX + PLOT_PX + RIGHT_PX
        size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{escape(self._title)}</title>",
            f"<style>{STYLE}</style>",
            f'<text class="title" x="8" y="20">{escape(self._title)}</text>',
        ]
        return "\n".join([*head, *(self._draw_goal(goal, height) for goal in self._goals), *parts, "</svg>"]) + "\n"

    def _place(self, ratio: float) -> float:
        return round(LABEL_PX + PLOT_PX * min(ratio, self._limit) / self._limit, 1)

    def _draw_bar(self, bar: Bar, top: int) -> str:
        end, middle = self._place(bar.ratio), top + ROW_PX / 2
        number = max(end, self._place(bar.greatest)) + 6
        kind = {True: "met", False: "missed", None: "plain"}[bar.is_met]
        return (
            f'<text x="{LABEL_PX - 8}" y="{middle + 4}" text-anchor="end">{escape(bar.label)}</text>'
            f'<rect class="{kind}" x="{LABEL_PX}" y="{top + 3}" width="{round(end - LABEL_PX, 1)}" height="{ROW_PX - 6}" '
            f'rx="2"/>'
            f'<line class="spread" x1="{self._place(bar.least)}" x2="{self._place(bar.greatest)}" y1="{middle}" y2="{middle}"/>'
            f'<text class="faint number" x="{number}" y="{middle + 4}">{bar.ratio:.{1 if bar.ratio >= 10 else 2}f}</text>'
        )

    def _draw_goal(self, goal: float, height: int) -> str:
        place = self._place(goal)
        return (
            f'<line class="line" x1="{place}" x2="{place}" y1="{TOP_PX - 6}" y2="{height - 8}"/>'
            f'<text class="faint" x="{place}" y="{TOP_PX - 10}" text-anchor="middle">{goal:g}</text>'
        )
