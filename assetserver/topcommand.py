"""``assetserver top``: a running server, looked at each second until somebody has seen enough."""

from __future__ import annotations

import sys
import time
from collections import deque

import msgspec
from rich.console import Console
from rich.live import Live

from .adminclient import AdminClient, find_server
from .errors import AssetServerError, UnauthorisedError
from .metrics.snapshot import Rates, Snapshot, parse_snapshot
from .settings import Settings
from .topscreen import View, count_requests, draw

_KEPT = 600
_FIRST_S = 0.5
_WINDOW_S = 3.0
"""What goes on is told of the last seconds: processes count what they repeat from memory once a second."""
_UNREADY = 503


class Watcher:
    """Looks at the server that ``client`` asks; what it said last stays to be seen while it does not answer."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client
        self._past: deque[float] = deque(maxlen=_KEPT)
        self._seen = deque([self._look()])

    def view(self) -> View:
        """Look again. Raises what ``AdminClient.fetch`` does."""
        self._seen.append(self._look())
        while len(self._seen) > 2 and self._seen[-1].at_s - self._seen[1].at_s >= _WINDOW_S:  # noqa: PLR2004 - both ends
            self._seen.popleft()
        rates = Rates(self._seen[0], self._seen[-1])
        self._past.append(count_requests(rates))
        popular = msgspec.json.decode(self._client.fetch("/-/popular"))
        ready = msgspec.json.decode(self._client.fetch("/-/ready", _UNREADY))
        return View(self._client.address, rates, ready, popular, list(self._past))

    def _look(self) -> Snapshot:
        text = self._client.fetch("/-/metrics").decode("utf-8", "replace")
        return parse_snapshot(text, time.monotonic())


def top(settings: Settings, url: str, token: str, interval_s: float, *, is_once: bool) -> None:
    """Show the server of ``settings``, or at ``url``, every ``interval_s``; ``is_once``: one screen, and end.

    Raises ``AssetServerError`` if it cannot be looked at in the beginning; later the screen says so.
    """
    watcher = Watcher(find_server(settings, url, token))
    console = Console()
    is_once = is_once or not sys.stdout.isatty()
    time.sleep(_WINDOW_S if is_once else min(interval_s, _FIRST_S))
    view = watcher.view()
    if is_once:
        console.print(draw(view, console.width, console.height))
        return
    with Live(draw(view, console.width, console.height), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval_s)
            try:
                view = watcher.view()
            except UnauthorisedError:
                raise
            except AssetServerError:
                view = view._replace(problem="no answer")
            live.update(draw(view, console.width, console.height), refresh=True)
