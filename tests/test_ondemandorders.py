"""What a server process orders: how much, and how often."""

import pytest

from assetserver.delivery.variantstore import VariantStore
from assetserver.errors import OverloadedError
from assetserver.images.plan import Plan, Qualities
from assetserver.images.transform import Transform
from assetserver.ondemandjobs import Order, Subject, order_picture
from assetserver.ondemandorders import Orders
from assetserver.ondemandsweep import CacheSweep
from assetserver.picturejobs import choose_plan
from assetserver.settingtables import ImageSettings
from assetserver.studios import common_plan

NEAT = ImageSettings(jpeg_quality=70, webp_quality=71, avif_quality=72, keep_copyright=True, wide_gamut=True)


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
    return order_picture(Plan(), Subject("releases", "ab" * 32), Transform(width=width), "base")


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


def test_the_cache_is_looked_through_after_removals_and_once_an_hour(tmp_path):
    store, sources, mark, now_s = VariantStore(str(tmp_path), 1 << 20), {"ab" * 32, "cd" * 32}, b"1", 0.0
    sweep = CacheSweep(store, lambda digest: digest in sources, lambda: mark, lambda: now_s)

    def refuse(source: str) -> None:
        store.refuse(source, "it is broken", 3600.0, source)

    for source in sources:
        refuse(source)
    assert [sweep.look() for _ in range(3)] == [0, 0, 0]
    sources.remove("cd" * 32)
    assert sweep.look() == 0  # nobody told
    mark = b"2"
    assert [sweep.look(), sweep.look()] == [1, 0]
    mark = b"3"
    assert sweep.look() == 0
    refuse("cd" * 32)  # the job was at work meanwhile, or the blob not gone yet
    assert [sweep.look(), sweep.look()] == [1, 0]
    refuse("cd" * 32)
    now_s += 3599.0
    assert sweep.look() == 0
    now_s += 2.0
    assert sweep.look() == 1


def test_orders_are_made_as_the_settings_say_of_all_pictures():
    plan = order_picture(common_plan(NEAT), Subject("media", "ab" * 32), Transform(width=640), "avif").plan
    assert plan.qualities == Qualities(avif=72)
    assert (plan.keeps_gamut, plan.transform) == (True, Transform(width=640, metadata="copyright"))
    upload = choose_plan(NEAT)
    assert (upload.qualities, upload.keeps_gamut) == (Qualities(jpeg=70, webp=71, avif=72), True)


@pytest.mark.parametrize(
    ("changed", "makes_anew"),
    [
        ({"jpeg_quality": 1}, {"base"}),
        ({"webp_quality": 1}, {"webp"}),
        ({"avif_quality": 1}, {"avif"}),
        ({"keep_copyright": True}, {"base", "webp", "avif"}),
        ({"wide_gamut": True}, {"base", "webp", "avif"}),
        ({"widths": (100,), "formats": ()}, set()),
    ],
)
def test_a_changed_setting_makes_those_pictures_anew_that_it_is_about(changed, makes_anew):
    common = [common_plan(ImageSettings()), common_plan(ImageSettings(**changed))]
    keys = {
        kind: {order_picture(one, Subject("media", "ab" * 32), Transform(), kind).key for one in common}
        for kind in ("base", "webp", "avif")
    }
    assert {kind for kind, both in keys.items() if len(both) > 1} == makes_anew


def test_a_quality_that_is_asked_for_needs_none_of_the_settings():
    keys = {
        order_picture(common_plan(one), Subject("media", "ab" * 32), Transform(quality=50), "base").key
        for one in (ImageSettings(), ImageSettings(jpeg_quality=1))
    }
    assert len(keys) == 1
