"""Ids of uploads."""

from __future__ import annotations

import os
import re

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
