"""The gate: best-of-N is off until it helps, and goes off again when it hurts."""

import numpy as np

from mechanic_rl_ros.algorithms.gate import Gate, alternates


def feed(gate: Gate, plain: float, best: float, episodes: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for number in range(episodes):
        chosen = alternates(number)
        gate.add(bool(rng.random() < (best if chosen else plain)), chosen)


def test_it_starts_off_and_one_arm_alone_decides_nothing():
    gate = Gate()
    for _ in range(30):
        gate.add(True, True)
    assert not gate.prefers_best_of_n
    assert gate.probability() == 0.5


def switched_on(plain: float, best: float, runs: int = 300) -> float:
    """Share of runs of 300 episodes in which the gate was on at any time."""
    on = 0
    for seed in range(runs):
        rng, gate = np.random.default_rng(seed), Gate()
        for number in range(300):
            gate.add(bool(rng.random() < (best if alternates(number) else plain)), alternates(number))
            if gate.prefers_best_of_n:
                on += 1
                break
    return on / runs


def test_luck_alone_rarely_switches_it_on():
    # The probabilities that it looks at are not independent: 300 looks at equal arms go beyond 0.95 more often than one in twenty.
    assert switched_on(0.5, 0.5) < 0.25
    assert switched_on(0.8, 0.7) < 0.05


def test_getting_better_is_no_merit_of_best_of_n():
    """As in practice: 60 plain episodes of the base policy, then both arms, equally good and better all the time."""
    on = 0
    for seed in range(300):
        rng, gate = np.random.default_rng(seed), Gate()
        for number in range(240):
            chosen = number >= 60 and alternates(number)
            gate.add(bool(rng.random() < (0.4 if number < 60 else 0.45 + 0.33 * (number - 60) / 180)), chosen)
        on += gate.prefers_best_of_n
    assert on / 300 < 0.2


def test_what_helps_is_found_in_most_runs():
    assert switched_on(0.5, 0.7) > 0.9


def test_a_few_lucky_episodes_do_not_switch_it_on():
    gate = Gate()
    for number in range(36):
        gate.add(alternates(number), alternates(number))
    assert gate.probability() > gate.on
    assert not gate.prefers_best_of_n


def test_it_switches_on_when_best_of_n_helps():
    gate = Gate()
    feed(gate, 0.4, 0.8, 80)
    assert gate.prefers_best_of_n


def test_it_stays_off_while_best_of_n_hurts_and_goes_off_again():
    gate = Gate()
    feed(gate, 0.5, 0.1, 60)
    assert not gate.prefers_best_of_n
    feed(gate, 0.4, 0.9, 200)
    assert gate.prefers_best_of_n
    feed(gate, 0.8, 0.2, 120)
    assert not gate.prefers_best_of_n


def test_between_the_thresholds_the_last_decision_holds():
    undecided = {"arms": [[20.0, 20.0, 0.0, 0.0, 0.0], [21.0, 20.0, 0.0, 0.0, 0.0]]}
    for decided in (False, True):
        gate = Gate()
        gate.restore({**undecided, "prefers_best_of_n": decided})
        gate.add(True, True)
        assert gate.off < gate.probability() < gate.on
        assert gate.prefers_best_of_n is decided


def test_the_past_is_forgotten():
    gate = Gate(memory=20)
    feed(gate, 0.0, 0.0, 200)
    feed(gate, 1.0, 1.0, 200)
    assert gate.success(False) > 0.98
    assert gate.success(True) > 0.98


def test_half_of_the_episodes_act_plainly():
    assert [alternates(number) for number in range(4)] == [False, True, False, True]


def test_it_is_restored_as_it_was():
    gate, again = Gate(), Gate()
    feed(gate, 0.4, 0.8, 80)
    again.restore(gate.state())
    assert again.state() == gate.state()


def practised(gain: float, seed: int, told: float = 1.0, episodes: int = 180) -> Gate:
    """A gate after episodes in scenes of which most are nearly always solved or hardly ever; ``told``: how much of that their promise tells."""
    rng, gate = np.random.default_rng(seed), Gate()
    for number in range(episodes):
        ease = rng.choice([0.1, 0.9])
        promise = 0.5 * (told * ease + (1.0 - told) * rng.choice([0.1, 0.9]))
        gate.add(bool(rng.random() < ease * 0.9 + gain * alternates(number)), alternates(number), promise)
    return gate


def share_on(gain: float, told: float, runs: int = 200) -> float:
    return sum(practised(gain, seed, told).prefers_best_of_n for seed in range(runs)) / runs


def test_what_scenes_promised_makes_a_gain_easier_to_see():
    assert share_on(0.1, told=0.0) < 0.65
    assert share_on(0.1, told=1.0) > 0.72


def test_a_promise_makes_nobody_luckier():
    for told in (0.0, 1.0):
        assert share_on(0.0, told) < 0.25
        assert share_on(-0.09, told) < 0.05


def test_easy_scenes_are_no_merit_of_best_of_n():
    """Who chose was in luck: every scene that best-of-N met was an easy one."""
    rng, told, blind = np.random.default_rng(0), Gate(), Gate()
    for number in range(160):
        chosen = alternates(number)
        easy = rng.random() < (0.75 if chosen else 0.4)
        success = bool(rng.random() < (0.85 if easy else 0.15))
        told.add(success, chosen, 0.6 if easy else 0.1)
        blind.add(success, chosen)
    assert blind.prefers_best_of_n
    assert not told.prefers_best_of_n


def test_a_promise_that_is_always_the_same_changes_nothing():
    gates = [Gate(), Gate()]
    rng = np.random.default_rng(3)
    for number in range(100):
        success = bool(rng.random() < 0.5)
        for gate, promise in zip(gates, (0.0, 0.7), strict=True):
            gate.add(success, alternates(number), promise)
    assert abs(gates[0].probability() - gates[1].probability()) < 1e-12


def test_a_promise_that_knew_everything_is_not_believed_to():
    gate = Gate()
    for number in range(100):
        gate.add(number % 4 < 2, alternates(number), float(number % 4 < 2))
    assert 0.4 < gate.probability() < 0.6


def test_what_an_earlier_version_counted_is_counted_anew_and_its_decision_stands():
    gate = Gate()
    gate.restore({"counts": [[20.0, 20.0], [30.0, 10.0]], "prefers_best_of_n": True})
    assert gate.prefers_best_of_n
    assert gate.success(True) is None
    feed(gate, 0.8, 0.2, 60)
    assert not gate.prefers_best_of_n
