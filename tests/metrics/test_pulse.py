"""The pulse of an event loop: a loop that was held up says so."""

import asyncio
import time

from assetserver.metrics.board import Board
from assetserver.metrics.families import family
from assetserver.metrics.pulse import Pulse

LAG = family("event_loop_lag_seconds")


def test_loop_that_is_held_up_is_late():
    block, second = Board().claim(), asyncio.Event()
    pulse = Pulse(block, second.set)

    async def run() -> None:
        pulse.start()
        await asyncio.sleep(0)
        time.sleep(0.4)  # noqa: ASYNC251 - it is what is measured
        await second.wait()
        pulse.stop()

    asyncio.run(asyncio.wait_for(run(), 60))

    slots = block.slots[LAG.first : LAG.first + LAG.width].tolist()
    late = sum(slots[LAG.bucket(0.25) : -1])
    assert late >= 1
    assert sum(slots[:-1]) >= 10
    assert block.slots[family("event_loop_latest_lag_seconds").slot()] >= 250_000_000


def test_without_asyncio_there_is_none():
    pulse = Pulse(Board().claim(), lambda: None)

    pulse.start()
    pulse.stop()
