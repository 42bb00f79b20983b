"""Ids of uploads."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor

from assetserver.uploads.identifiers import new_id


def test_no_two_ids_are_the_same_also_in_a_process_that_was_forked():
    ids = [new_id() for _ in range(300)]
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, "".join(new_id() for _ in range(100)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading, encoding="ascii") as told:
        ids += re.findall(".{24}", told.read())
    ids += [new_id() for _ in range(300)]
    assert len(set(ids)) == len(ids) == 700
    assert all(re.fullmatch("[A-Za-z0-9_-]{24}", one) for one in ids)


def test_threads_are_given_no_id_twice():
    with ThreadPoolExecutor(8) as threads:
        ids = [one for some in threads.map(lambda _: [new_id() for _ in range(1000)], range(8)) for one in some]
    assert len(set(ids)) == 8000
