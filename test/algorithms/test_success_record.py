"""The record of success: a drop is found soon, and hardly ever where there is none."""

import json

import numpy as np

from mechanic_rl_ros.algorithms.success_record import PERIOD, Finding, SuccessRecord

RUNS = 100


def first_drop(record: SuccessRecord, rates, rng, best_of_n=lambda number: number % 2 == 1) -> int | None:
    """Episodes until a drop is found."""
    for number, rate in enumerate(rates):
        if record.add(bool(rng.random() < rate), best_of_n(number)) is Finding.DROP:
            return number + 1
    return None


def test_constant_success_hardly_ever_looks_like_a_drop_in_500_episodes():
    for rate in (0.4, 0.9):
        rng = np.random.default_rng(0)
        assert sum(first_drop(SuccessRecord(), [rate] * 500, rng) is not None for _ in range(RUNS)) < 0.05 * RUNS


def test_a_drop_from_80_to_30_percent_is_found_within_60_episodes():
    rng = np.random.default_rng(0)
    found = [first_drop(SuccessRecord(), [0.8] * 120 + [0.3] * 60, rng) for _ in range(RUNS)]
    assert sum(number is not None and number > 120 for number in found) >= 0.97 * RUNS


def test_best_of_n_that_succeeds_less_than_plain_acting_is_no_drop():
    rng = np.random.default_rng(0)
    record = SuccessRecord()
    assert first_drop(record, [0.9] * 2 * PERIOD, rng, lambda number: False) is None
    assert first_drop(record, [0.9, 0.1] * 2 * PERIOD, rng) is None


def test_only_one_way_to_act_may_drop():
    rng = np.random.default_rng(0)
    record = SuccessRecord()
    assert first_drop(record, [0.9] * 2 * PERIOD, rng) is None
    assert first_drop(record, [0.9, 0.0] * 2 * PERIOD, rng) is not None


def test_nothing_is_found_before_two_periods_are_over():
    record = SuccessRecord()
    found = [record.add(number < PERIOD, False) for number in range(2 * PERIOD)]
    assert found[: 2 * PERIOD - 1] == [Finding.NOTHING] * (PERIOD - 1) + [Finding.BEST] + [Finding.NOTHING] * (PERIOD - 1)
    assert found[-1] is Finding.DROP


def test_a_period_that_is_worse_does_not_become_what_is_compared_with():
    record, rng = SuccessRecord(), np.random.default_rng(0)
    ends = [[record.add(bool(rng.random() < rate), False) for _ in range(PERIOD)][-1] for rate in (0.5, 1.0, 0.8)]
    assert ends == [Finding.BEST, Finding.BEST, Finding.PERIOD]
    assert f"{PERIOD} of {PERIOD} in the best period" in record.story()


def test_it_is_restored_as_it_was():
    record, again = SuccessRecord(), SuccessRecord()
    first_drop(record, [0.8] * 100, np.random.default_rng(0))
    again.restore(json.loads(json.dumps(record.state())))
    rates = [0.3] * 80
    assert first_drop(record, rates, np.random.default_rng(1)) == first_drop(again, rates, np.random.default_rng(1)) is not None
