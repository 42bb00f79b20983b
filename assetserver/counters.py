"""Where workers count that run apart from their server, so that it can tell of them."""

from __future__ import annotations

import logging
import os

from .data import data_folder
from .metrics.apart import open_board_file
from .metrics.board import Board
from .settings import Settings

logger = logging.getLogger(__name__)


def counters_path(settings: Settings) -> str:
    """Return the file in the data folder in which workers apart count; see ``metrics.apart``."""
    return os.path.join(data_folder(settings), "run", "worker-counters")


def open_counters(settings: Settings) -> Board:
    """Return where a worker counts that runs apart: what it does is told by ``/-/metrics`` of who has the same data folder.

    Where that cannot be, it counts for itself: no reason not to work.
    """
    path = counters_path(settings)
    try:
        return open_board_file(path)
    except OSError as error:
        logger.warning("metrics will not show what this worker does: %s: %s", path, error.strerror or error)
        return Board()
