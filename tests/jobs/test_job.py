"""Values of jobs: keys by content, when they are tried again, and what errors mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.errors import BlobMissingError, JobFailedError, JobRefusedError, StorageError
from assetserver.jobs.attempt import read_failure
from assetserver.jobs.job import Failure, content_key
from assetserver.jobs.retry import RetryPolicy


@given(st.lists(st.lists(st.text(), min_size=1), min_size=2, max_size=2))
def test_keys_are_equal_only_where_all_parts_are(pair):
    first, second = pair
    assert (content_key(*first) == content_key(*second)) == (first == second)
    assert content_key(*first) == content_key(*first)


def test_parts_that_run_together_are_told_apart():
    keys = {content_key("a", "bc"), content_key("ab", "c"), content_key("a", "b", "c"), content_key("a", "b", "c", "")}
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("attempts", "chance", "delay_s"),
    [(1, 0.0, 5.0), (1, 1.0, 10.0), (2, 0.0, 20.0), (2, 0.5, 30.0), (3, 1.0, 100.0), (1000, 1.0, 100.0), (0, 0.0, 5.0)],
)
def test_each_attempt_waits_longer_and_none_for_ever(attempts, chance, delay_s):
    assert RetryPolicy(first_s=10.0, factor=4.0, longest_s=100.0).delay_s(attempts, chance) == delay_s


def test_the_first_death_of_a_worker_costs_nothing():
    policy = RetryPolicy(first_s=10.0, factor=4.0)
    assert [policy.delay_after_death_s(attempts, 1.0) for attempts in (1, 2, 3)] == [0.0, 10.0, 40.0]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (JobFailedError("no route", signal=9), Failure("no route", signal=9)),
        (JobRefusedError("not a picture"), Failure("not a picture", is_permanent=True)),
        (StorageError("disk"), Failure("disk")),
        (BlobMissingError("blob"), Failure("blob", is_permanent=True)),
        (ValueError("bug"), Failure("ValueError: bug")),
        (KeyError(), Failure("KeyError: ")),
        (JobFailedError(""), Failure("JobFailedError")),
        (JobFailedError("x" * 9999), Failure("x" * 2000)),
    ],
)
def test_what_a_handler_raises_says_whether_it_is_tried_again(error, failure):
    assert read_failure(error) == failure
