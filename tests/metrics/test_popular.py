"""What is asked for most, day by day, in real files."""

import json
import os

from assetserver.metrics.board import Board
from assetserver.metrics.families import family
from assetserver.metrics.popular import CAPACITY, KEEP_DAYS, LIMIT_NAME, Popular, read_days, remove_old, write

NOON = 1_795_780_800.0  # 2026-11-27 12:00 UTC
DAY_S = 86_400
CACHE = family("cache_requests_total")


def test_days_of_all_processes_are_merged(tmp_path):
    folder = tmp_path / "reports"
    for place, count in ((0, 3), (1, 4)):
        board = Board(2)
        block = board.claim()
        block.place = place
        popular = Popular(block, str(folder), lambda: NOON)
        popular.note("/a", count, is_missing=False)
        popular.note("/old.0123abcd.js", 1, is_missing=True)
        block.slots[CACHE.slot("hot", "br")] += count
        write(*popular.take())

    day = read_days(str(folder), 1, NOON)

    assert [(one.name, one.times) for one in day.assets.rows] == [("/a", 7)]
    assert [(one.name, one.times) for one in day.missing.rows] == [("/old.0123abcd.js", 2)]
    assert day.cache == {"br": {"hot": 7}}
    assert sorted(os.listdir(folder)) == ["2026-11-27.0.json", "2026-11-27.1.json"]


def test_who_takes_a_place_over_goes_on_counting(tmp_path):
    board = Board()
    folder = str(tmp_path)
    for _ in range(3):
        block = board.claim()
        popular = Popular(block, folder, lambda: NOON)
        popular.note("/a", 1, is_missing=False)
        block.slots[CACHE.slot("hit", "gzip")] += 5
        write(*popular.take())

    day = read_days(folder, 1, NOON)

    assert day.assets.rows[0].times == 3
    assert day.cache == {"gzip": {"hit": 15}}


def test_a_new_day_has_a_file_of_its_own_and_old_days_go(tmp_path):
    now = NOON
    popular = Popular(Board().claim(), str(tmp_path), lambda: now)
    for _ in range(3):
        popular.note("/a", 1, is_missing=False)
        write(*popular.take())
        now += DAY_S
        assert popular.take() is None

    assert read_days(str(tmp_path), 2, NOON + 2 * DAY_S).assets.rows[0].times == 2
    remove_old(str(tmp_path), NOON + DAY_S * (KEEP_DAYS + 1))
    assert sorted(os.listdir(tmp_path)) == ["2026-11-28.0.json", "2026-11-29.0.json"]


def test_nothing_new_is_not_written_again(tmp_path):
    popular = Popular(Board().claim(), str(tmp_path), lambda: NOON)

    assert popular.take() is None
    popular.note("/a", 1, is_missing=False)
    assert popular.take() is not None
    assert popular.take() is None


def test_files_are_bounded_whatever_is_asked_for(tmp_path):
    popular = Popular(Board().claim(), str(tmp_path), lambda: NOON)
    for number in range(5 * CAPACITY):
        popular.note(f"/{number}/" + "x" * 5000, 1, is_missing=False)

    path, content = popular.take()
    write(path, content)

    assert len(content) < CAPACITY * (LIMIT_NAME + 64)
    assert len(json.loads(content)["assets"]["rows"]) == CAPACITY


def test_damaged_files_count_for_nothing(tmp_path):
    (tmp_path / "2026-11-27.0.json").write_text("{")
    (tmp_path / "2026-11-27.1.json").write_bytes(b"\xff\0")
    (tmp_path / "notes.txt").write_text("mine")

    assert read_days(str(tmp_path), 1, NOON).assets.rows == []
    remove_old(str(tmp_path), NOON + 400 * DAY_S)
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_folder_that_cannot_be_written_harms_nobody(tmp_path):
    popular = Popular(Board().claim(), str(tmp_path / "missing" / "reports"), lambda: NOON)
    popular.note("/a", 1, is_missing=False)

    write(*popular.take())

    assert not (tmp_path / "missing").exists()
