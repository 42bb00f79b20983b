"""A bar chart as SVG: one bar per row, with lines at the goals; readable on light and dark grounds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

LABEL_PX, PLOT_PX, ROW_PX, TOP_PX, RIGHT_PX = 330, 400, 24, 44, 70
LIMIT = 2.0
"""Longer bars are cut, and their number says how long they are."""

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f; }
  .faint { fill: #57606a; font-size: 12px; }
  .met { fill: #2da44e; } .missed { fill: #d4762c; }
  .line { stroke: #57606a; stroke-dasharray: 4 3; } .spread { stroke: #24292f; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .faint { fill: #9198a1; }
    .met { fill: #3fb950; } .missed { fill: #e09b4d; }
    .line { stroke: #9198a1; } .spread { stroke: #e6edf3; }
  }
"""


class Bar(NamedTuple):
    """A ratio: median, least and greatest, and whether it is at its goal."""

    label: str
    ratio: float
    least: float
    greatest: float
    is_met: bool


def draw(title: str, bars: Sequence[Bar], goals: Sequence[float]) -> str:
    """Return the chart as the text of an SVG file."""
    height, width = TOP_PX + ROW_PX * len(bars) + 12, LABEL_PX + PLOT_PX + RIGHT_PX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<text x="8" y="18">{escape(title)}</text>',
        *(_draw_bar(bar, TOP_PX + ROW_PX * number) for number, bar in enumerate(bars)),
        *(_draw_goal(goal, height) for goal in goals),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _place(ratio: float) -> float:
    return round(LABEL_PX + PLOT_PX * min(ratio, LIMIT) / LIMIT, 1)


def _draw_bar(bar: Bar, top: int) -> str:
    end, middle = _place(bar.ratio), top + ROW_PX / 2
    number = max(end, _place(bar.greatest)) + 6
    return (
        f'<text x="{LABEL_PX - 8}" y="{middle + 4}" text-anchor="end">{escape(bar.label)}</text>'
        f'<rect class="{"met" if bar.is_met else "missed"}" x="{LABEL_PX}" y="{top + 4}" width="{round(end - LABEL_PX, 1)}" '
        f'height="{ROW_PX - 8}" rx="2"/>'
        f'<line class="spread" x1="{_place(bar.least)}" x2="{_place(bar.greatest)}" y1="{middle}" y2="{middle}"/>'
        f'<text class="faint" x="{number}" y="{middle + 4}">{bar.ratio:.2f}</text>'
    )


def _draw_goal(goal: float, height: int) -> str:
    place = _place(goal)
    return (
        f'<line class="line" x1="{place}" x2="{place}" y1="{TOP_PX - 6}" y2="{height - 8}"/>'
        f'<text class="faint" x="{place}" y="{TOP_PX - 10}" text-anchor="middle">{goal:g}</text>'
    )
