"""What a server process orders: how much, and how often."""

import pytest

from assetserver.errors import OverloadedError
from assetserver.images.transform import Transform
from assetserver.ondemandjobs import Order, order_picture
from assetserver.ondemandorders import Orders


class Queue:
    """Jobs that nobody does, by key."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def enqueue(self, new):
        self.keys += [job.key for job in new if job.key not in self.keys]
        return []

    def count_queued(self, kind: str) -> int:
        return len(self.keys) if kind == "picture" else 0


def order(width: int) -> Order:
    return order_picture("releases", "ab" * 32, Transform(width=width), "base", is_animated=False)


def test_what_nobody_makes_does_not_pile_up_however_long_clients_ask():
    queue, now_s = Queue(), 0.0
    orders = Orders(lambda: queue, lambda _: False, 2, lambda: now_s)
    orders.place(order(1))
    orders.place(order(2))
    for minute in range(1, 4):
        now_s = 61.0 * minute
        with pytest.raises(OverloadedError, match="2 pictures are being made"):
            orders.place(order(2 + minute))
    assert len(queue.keys) == 2


def test_what_is_on_its_way_for_long_is_ordered_again_though_the_queue_is_full():
    queue, now_s = Queue(), 0.0
    orders = Orders(lambda: queue, lambda _: False, 1, lambda: now_s)
    orders.place(order(1))
    now_s = 61.0
    queue.keys = ["another"]
    orders.place(order(1))
    assert queue.keys == ["another", order(1).key]
