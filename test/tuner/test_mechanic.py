"""The published tuner: equal to its readable twin around every base, robust against bad gradients, resumable."""

import collections
import copy
import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load, save

from mechanic_rl_ros.tuner import Mechanic, RelativeMechanic, adam_pass, kernels
from mechanic_rl_ros.tuner.kernels import place
from mechanic_rl_ros.tuner.mechanic import SCALE_BOUND
from mechanic_rl_ros.tuner.reference import ReferenceMechanic

SHAPES = [(5, 3), (4,), (2, 3, 2), ()]
STEPS = 200


def make_parameters(dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).to(device)) for shape in SHAPES]


def groups(parameters):
    """Two groups that differ in everything that a group can say."""
    return [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.3, "weight_decay": 0.05}]


def recorded(steps=STEPS, missing=True, seed=1):
    """Gradients of many steps, alike for all who follow them: closed loops diverge chaotically. A fifth of them is missing."""
    generator = torch.Generator().manual_seed(seed)
    record = []
    for step in range(steps):
        row = [torch.randn(shape, generator=generator, dtype=torch.float64) * 10.0 ** (step % 5 - 2) + 0.3 for shape in SHAPES]
        record.append([None if missing and (step + index) % 5 == 0 else gradient for index, gradient in enumerate(row)])
    return record


def follow(optimizer, parameters, record):
    for row in record:
        for tensor, gradient in zip(parameters, row, strict=True):
            tensor.grad = None if gradient is None else gradient.to(tensor.dtype)
        optimizer.step()
    return optimizer


class Nudged(torch.optim.Optimizer):
    """A base that looks at the parameters: it steps by a share of their size."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for tensor in group["params"]:
                if tensor.grad is not None:
                    tensor.sub_(group["lr"] * tensor.abs().mean() * tensor.grad.sign())


BASES = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "SGD with momentum and decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "SGD that maximises": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1, maximize=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=1.0),
    "Adam with decay, fused": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1.0, weight_decay=0.1),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
    "AdamW that maximises": lambda p: torch.optim.AdamW(p, lr=0.01, maximize=True),
    "NAdam with decoupled decay": lambda p: torch.optim.NAdam(p, weight_decay=0.1, decoupled_weight_decay=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, weight_decay=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.5),
    "a base that looks at the parameters": Nudged,
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("s_init", [1e-8, 1e-2])
def test_it_equals_its_readable_twin_in_double_precision(base, s_init):
    mine, plain = make_parameters(), make_parameters()
    start = [tensor.detach().clone() for tensor in plain]
    tuner, twin = Mechanic(BASES[base](groups(mine)), s_init=s_init), ReferenceMechanic(BASES[base](groups(plain)), s_init=s_init)
    for row in recorded():
        follow(tuner, mine, [row])
        follow(twin, plain, [row])
        assert float(tuner.scale) == pytest.approx(twin.scale, rel=1e-9, abs=1e-30)
    for a, b in zip(mine, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    if s_init > 1e-8:  # from that start they hardly move, and 1e-12 of their size is much of their way
        assert_same_way(mine, plain, 1e-12, start)
    assert twin.scale > 0.0


ROUNDED = {"NAdam with decoupled decay": 2e-4, "Adagrad": 2e-4}
"""Bases that keep sums or products in single precision over all steps; on their own, without a tuner, they are as far from double precision."""


def assert_same_way(parameters, others, tolerance, start):
    """Relative to the way that was gone: a tuner that moves nothing is not equal to one that does."""
    for a, b, begin in zip(parameters, others, start, strict=True):
        way = (b - begin).detach()
        least = (2.0**-24 if a.dtype == torch.float32 else 0.0) * float(b.detach().norm())  # parameters of single precision are no nearer
        assert 1e3 * least < float(way.norm())
        assert float((a.double() - b).detach().norm()) < tolerance * float(way.norm()) + least


@pytest.mark.parametrize("base", [name for name in BASES if "looks" not in name])
@pytest.mark.parametrize("native", [True, False], ids=["native", "torch"])
def test_it_equals_its_twin_in_single_precision(base, native, monkeypatch):
    if not native:
        monkeypatch.setattr(kernels, "_library", lambda: None)
    mine = make_parameters(torch.float32)
    exact = [torch.nn.Parameter(tensor.detach().double()) for tensor in mine]
    start = [tensor.detach().clone() for tensor in exact]
    tuner = follow(Mechanic(BASES[base](groups(mine)), s_init=1e-2), mine, recorded())
    record = [[None if g is None else g.float().double() for g in row] for row in recorded()]
    twin = follow(ReferenceMechanic(BASES[base](groups(exact)), s_init=1e-2), exact, record)
    tolerance = ROUNDED.get(base, 1e-5)
    assert float(tuner.scale) == pytest.approx(twin.scale, rel=tolerance)
    assert_same_way(mine, exact, tolerance, start)


def test_the_kernels_of_the_package_are_built_and_used():
    assert kernels._library() is not None, f"{kernels.LIBRARY} is missing: run make"


@pytest.mark.parametrize("sizes", [[1], [4095, 1, 4097], [3_000_000, 7, 40_000]], ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_kernels_equal_torch(sizes, threads, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        d, g, x, ref = ([torch.randn(size, generator=generator) for size in sizes] for _ in range(4))
        copies = [[tensor.clone() for tensor in tensors] for tensors in (d, ref, x)]
        decays, scale = [0.1 * (index % 2) for index in range(len(sizes))], torch.tensor(0.3, dtype=torch.float64)
        mine = kernels.products(d, g), kernels.place(d, ref, x, decays, scale)
        monkeypatch.setattr(kernels, "_library", lambda: None)
        theirs = kernels.products(copies[0], g), kernels.place(*copies, decays, scale)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3 * sum(sizes) ** 0.5)
    for a, b in zip([*d, *x], [*copies[0], *copies[2]], strict=True):
        torch.testing.assert_close(a, b)


def steps_by_the_pass(base, dtype=torch.float32, prepare=lambda base: None):
    """How many of 10 steps were made for the base."""
    parameters, made = make_parameters(dtype), []
    tuner = Mechanic(base(parameters), s_init=0.1)
    prepare(tuner.base)
    step = adam_pass.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adam_pass, "step", lambda *parts: made.append(1) or step(*parts))
        follow(tuner, parameters, recorded(10, missing=False))
    return len(made)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_pass_that_makes_adams_steps_equals_its_own_in_large_tensors_too(threads, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    shapes = (1_200_000, 5_000, 7)
    start = [torch.randn(size, generator=generator) for size in shapes]
    gradients = [[torch.randn(size, generator=generator) for size in shapes] for _ in range(4)]
    before, ends = torch.get_num_threads(), []
    torch.set_num_threads(threads)
    try:
        for native in (True, False):
            if not native:
                monkeypatch.setattr(adam_pass, "adam_library", lambda *_: None)
            parameters = [torch.nn.Parameter(tensor.clone()) for tensor in start]
            tuner = follow(Mechanic(torch.optim.AdamW(parameters), s_init=0.1), parameters, gradients)
            ends.append([*parameters, *(tuner.state[tensor]["direction"] for tensor in parameters), tuner.scale])
    finally:
        torch.set_num_threads(before)
    for mine, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("base", ["AdamW, fused", "SGD with momentum and decay"])
def test_it_keeps_two_buffers_of_the_size_of_the_parameters_beyond_the_bases(base):
    parameter = torch.nn.Parameter(torch.ones(100_000))
    own = copy.deepcopy(parameter)
    tuner = follow(Mechanic(BASES[base]([parameter])), [parameter], [[torch.ones(100_000)]] * 3)
    alone = follow(BASES[base]([own]), [own], [[torch.ones(100_000)]] * 3)

    def numbers(state):
        return sum(value.numel() for entry in state.values() for value in entry.values() if isinstance(value, torch.Tensor))

    beyond = numbers(tuner.state) + numbers(tuner.base.state) - numbers(alone.state)
    assert 2 * 100_000 <= beyond < 2 * 100_000 + 100


@pytest.mark.parametrize("base", ["AdamW", "SGD with momentum and decay"])
def test_in_single_precision_it_finds_the_scale_of_its_twin_with_the_published_start_too(base):
    mine = make_parameters(torch.float32)
    exact = [torch.nn.Parameter(tensor.detach().double()) for tensor in mine]
    tuner = follow(Mechanic(BASES[base](groups(mine))), mine, recorded())
    record = [[None if g is None else g.float().double() for g in row] for row in recorded()]
    twin = follow(ReferenceMechanic(BASES[base](groups(exact))), exact, record)
    assert float(tuner.scale) == pytest.approx(twin.scale, rel=1e-5)


@pytest.mark.parametrize("name", ["Adam", "Adam with decay, fused", "AdamW", "AdamW, fused", "AdamW that maximises"])
def test_the_steps_of_an_adam_are_made_in_the_same_pass_but_for_the_first(name):
    assert steps_by_the_pass(BASES[name]) == 9


class OwnAdam(torch.optim.Adam):
    """Who derives from Adam may do anything else."""


def watched(base):
    base.register_step_post_hook(lambda *_: None)


@pytest.mark.parametrize(
    ("base", "dtype", "prepare"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), torch.float32, None),
        (lambda p: torch.optim.AdamW(p, amsgrad=True), torch.float32, None),
        (OwnAdam, torch.float32, None),
        (torch.optim.AdamW, torch.float64, None),
        (torch.optim.AdamW, torch.bfloat16, None),
        (torch.optim.AdamW, torch.float32, watched),
        (torch.optim.AdamW, torch.float32, lambda base: torch.optim.lr_scheduler.ConstantLR(base)),
    ],
    ids=["another base", "amsgrad", "a class of its own", "double precision", "half precision", "a hook", "a scheduler"],
)
def test_a_base_that_the_pass_does_not_know_makes_its_steps_itself(base, dtype, prepare):
    assert steps_by_the_pass(base, dtype, prepare or (lambda base: None)) == 0


@pytest.mark.parametrize("name", ["Adam with decay, fused", "AdamW", "AdamW that maximises"])
def test_what_the_pass_leaves_in_the_base_is_what_the_base_leaves_itself(name, monkeypatch):
    left = []
    for native in (True, False):
        if not native:
            monkeypatch.setattr(adam_pass, "adam_library", lambda *_: None)
        parameters = make_parameters(torch.float32)
        tuner = follow(Mechanic(BASES[name](groups(parameters)), s_init=0.1), parameters, recorded(20))
        left.append([tuner.base.state[tuner.state[tensor]["direction"]] for tensor in parameters])
    for mine, theirs in zip(*left, strict=True):
        assert mine["step"] == theirs["step"] > 10.0
        for moment in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(mine[moment], theirs[moment], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_gradient_that_is_not_finite_skips_the_step_and_harms_nothing_after_it(bad, dtype):
    record = recorded(20, missing=False)
    clean, hurt = make_parameters(dtype), make_parameters(dtype)
    start = [tensor.detach().clone() for tensor in clean]
    follow(Mechanic(torch.optim.AdamW(clean, lr=0.1), s_init=0.1), clean, record)
    poison = [gradient.clone() for gradient in record[3]]
    poison[0][1, 1] = bad
    tuner = follow(Mechanic(torch.optim.AdamW(hurt, lr=0.1), s_init=0.1), hurt, [*record[:10], poison, *record[10:]])
    assert tuner.skipped == 1
    assert not any(torch.equal(a, b) for a, b in zip(clean, start, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(clean, hurt, strict=True))


FUSED = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, fused=True),
}


@pytest.mark.parametrize("base", FUSED)
@pytest.mark.parametrize("place", [0, 10])
def test_a_step_that_may_not_ask_whether_the_gradient_is_finite_skips_it_all_the_same(base, place, monkeypatch):
    record = recorded(20, missing=False)
    poison = [gradient * math.nan for gradient in record[3]]
    clean, hurt = make_parameters(torch.float32), make_parameters(torch.float32)
    start = [tensor.detach().double() for tensor in clean]
    follow(Mechanic(FUSED[base](clean), s_init=0.1), clean, record)
    tuner = Mechanic(FUSED[base](hurt), s_init=0.1)
    monkeypatch.setattr(Mechanic, "_waits_for_host", lambda self: False)
    follow(tuner, hurt, [*record[:place], poison, *record[place:]])
    assert tuner.skipped == 1
    assert_same_way(hurt, [tensor.double() for tensor in clean], 1e-5, start)


@pytest.mark.parametrize("base", FUSED)
def test_a_skipped_step_is_nothing_to_a_parameter_that_begins_after_it(base, monkeypatch):
    record = [[gradient if index < 2 or step > 3 else None for index, gradient in enumerate(row)] for step, row in enumerate(recorded(8, missing=False))]
    record[3] = [None if gradient is None else gradient * math.nan for gradient in record[3]]
    waiting, hurrying = make_parameters(torch.float32), make_parameters(torch.float32)
    start = [tensor.detach().double() for tensor in waiting]
    follow(Mechanic(FUSED[base](groups(waiting)), s_init=0.1), waiting, record)  # one group alone torch's own fused SGD cannot begin in two steps
    monkeypatch.setattr(Mechanic, "_waits_for_host", lambda self: False)
    follow(Mechanic(FUSED[base](groups(hurrying)), s_init=0.1), hurrying, record)
    assert_same_way(hurrying, [tensor.double() for tensor in waiting], 1e-5, start)


def test_a_copy_need_not_wait_for_the_host_either():
    tuner = copy.deepcopy(Mechanic(torch.optim.AdamW(make_parameters(torch.float32), lr=0.1, fused=True)))
    tuner._bettors = SimpleNamespace(is_cuda=True)
    assert not tuner._waits_for_host()


def test_what_a_captured_graph_reads_again_stays_where_it_is(monkeypatch):
    monkeypatch.setattr(Mechanic, "_waits_for_host", lambda self: False)
    parameters = make_parameters(torch.float32)
    tuner = Mechanic(torch.optim.AdamW(parameters, lr=0.1, fused=True))
    record = recorded(6, missing=False)

    def places():
        own = [tuner._bettors, tuner._inner, tuner._skipped, tuner._decays, *parameters]
        states = [*tuner.state.values(), *tuner.base.state.values()]
        return [tensor.data_ptr() for tensor in (*own, *(value for state in states for value in state.values()))]

    follow(tuner, parameters, record[:2])
    before = places()
    follow(tuner, parameters, record[2:])
    assert places() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_captured_step_goes_the_way_of_steps_that_are_not_captured():
    record = recorded(12, missing=False)
    usual, captured = make_parameters(torch.float32, "cuda"), make_parameters(torch.float32, "cuda")

    def make(parameters):
        return Mechanic(torch.optim.AdamW(parameters, lr=0.1, fused=True, capturable=True), s_init=0.1)

    follow(make(usual), usual, [[gradient.cuda() for gradient in row] for row in record])
    tuner = make(captured)
    gradients = [torch.zeros_like(tensor) for tensor in captured]
    for tensor, gradient in zip(captured, gradients, strict=True):
        tensor.grad = gradient

    def set_gradients(row):
        for gradient, value in zip(gradients, row, strict=True):
            gradient.copy_(value)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for row in record[:3]:
            set_gradients(row)
            tuner.step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    kept = copy.deepcopy([*(tensor.detach() for tensor in captured), tuner._bettors])
    with torch.cuda.graph(graph, stream=stream):
        tuner.step()
    assert all(torch.equal(a, b) for a, b in zip(kept, [*captured, tuner._bettors], strict=True)), "capturing is no step"
    for row in record[3:]:
        set_gradients(row)
        graph.replay()
    torch.cuda.synchronize()
    for a, b in zip(usual, captured, strict=True):
        torch.testing.assert_close(a, b)


def test_a_finite_gradient_that_is_far_too_large_leaves_numbers_behind():
    parameters = make_parameters(torch.float32)
    tuner = Mechanic(torch.optim.SGD(parameters, lr=1.0, momentum=0.9), s_init=0.1)
    record = recorded(20, missing=False)
    outsized = [torch.full_like(gradient, 2e18) for gradient in record[0]]
    follow(tuner, parameters, [*record[:5], outsized, *record[5:]])
    assert tuner.skipped == 0
    assert all(bool(torch.isfinite(tensor).all()) for tensor in (*parameters, tuner._bettors, tuner._inner))


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_the_size_of_parameters_that_single_precision_cannot_square_is_known_all_the_same(base):
    parameters = [torch.nn.Parameter(1e20 * tensor.detach()) for tensor in make_parameters(torch.float32)]
    tuner = follow(Mechanic(base(parameters, lr=1.0), s_init=0.1), parameters, recorded(3, missing=False))
    assert float(tuner._inner[1]) == pytest.approx(sum(float(tensor.detach().double().square().sum()) for tensor in parameters), rel=1e-6)


def test_steps_go_on_where_nobody_sums_in_double_precision_what_overflowed(monkeypatch):
    in_single_precision = lambda *parts: place(*parts).float().double()  # as on CUDA  # noqa: E731
    monkeypatch.setattr("mechanic_rl_ros.tuner.mechanic.place", in_single_precision)
    parameters = make_parameters(torch.float32)
    tuner = Mechanic(torch.optim.SGD(parameters, lr=1.0, momentum=0.9), s_init=100.0)
    record = recorded(20, missing=False)
    follow(tuner, parameters, [*record[:5], [torch.full_like(gradient, 2e18) for gradient in record[0]], *record[5:]])
    assert not bool(torch.isfinite(tuner._inner).all())
    assert tuner.skipped == 0
    assert all(bool(torch.isfinite(tensor).all()) for tensor in (*parameters, tuner._bettors))


def test_all_gradients_missing_is_no_step():
    parameters = make_parameters()
    tuner = follow(Mechanic(torch.optim.AdamW(parameters, lr=1.0)), parameters, recorded(30))
    before, stood = copy.deepcopy(tuner.state_dict()), [tensor.detach().clone() for tensor in parameters]
    follow(tuner, parameters, [[None] * len(SHAPES)])
    after = tuner.state_dict()
    assert all(torch.equal(tensor, old) for tensor, old in zip(parameters, stood, strict=True))
    assert tuner.skipped == 0
    assert all(torch.equal(value, after["base"][i][name]) for i, state in before["base"].items() for name, value in state.items())
    assert torch.equal(before["tuner"]["bettors"], after["tuner"]["bettors"])
    assert before["base"].keys() == after["base"].keys()
    assert all(torch.equal(before["state"][i]["direction"], after["state"][i]["direction"]) for i in before["state"])


def test_the_first_scale_is_s_init_and_the_first_step_only_looks():
    parameters = make_parameters()
    start = [tensor.detach().clone() for tensor in parameters]
    tuner = Mechanic(torch.optim.SGD(parameters, lr=1.0), s_init=1e-3)
    record = recorded(2, missing=False)
    follow(tuner, parameters, record[:1])
    assert float(tuner.scale) == 0.0
    assert all(torch.equal(a, b) for a, b in zip(start, parameters, strict=True))
    follow(tuner, parameters, record[1:])
    assert float(tuner.scale) == pytest.approx(1e-3, rel=1e-6)


@pytest.mark.parametrize(("s_decay", "most"), [(0.01, 130.0), (0.0, 6 * SCALE_BOUND + 1.0)], ids=["held by the pull", "held by the bound"])
def test_the_scale_grows_while_gradients_agree_and_stays_finite_for_ever(s_decay, most):
    parameter = torch.nn.Parameter(torch.zeros(3))
    tuner = Mechanic(torch.optim.SGD([parameter], lr=1.0), s_decay=s_decay)
    seen = []
    for _ in range(3000):
        parameter.grad = torch.full((3,), 1e-3)
        tuner.step()
        seen.append(float(tuner.scale))
    assert seen[50] > 100 * seen[2]
    assert max(seen) <= most
    assert bool(torch.isfinite(parameter).all())


@pytest.mark.parametrize("origin", [1.0, 1e4])
def test_the_pull_ends_the_way_a_little_beyond_the_origin_or_at_its_own_scale(origin):
    parameter = torch.nn.Parameter(torch.full((3,), origin, dtype=torch.float64))
    tuner = Mechanic(torch.optim.SGD([parameter], lr=1.0))
    for _ in range(3000):
        parameter.grad = torch.full((3,), 1e-3, dtype=torch.float64)
        tuner.step()
    assert float(tuner.scale) <= 6 * SCALE_BOUND
    gone, summed = (parameter.detach() - origin).abs().max(), tuner.state[parameter]["direction"].abs().max()
    assert float(gone) < 1.2 * max(100.0 * float(summed), 1.5 * origin), "a scale of 1 / s_decay, or a little beyond the origin"


def test_bfloat16_parameters_learn_what_is_smaller_than_their_resolution():
    parameter = torch.nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
    tuner = Mechanic(torch.optim.SGD([parameter], lr=1e-5), s_init=1.0)
    for _ in range(400):
        parameter.grad = torch.ones_like(parameter)
        tuner.step()
    assert tuner.state[parameter]["direction"].dtype == torch.float32
    assert float(tuner.state[parameter]["direction"].mean()) == pytest.approx(-400e-5, rel=1e-3)
    assert float(parameter.detach().mean()) < 1.0


class OwnSgd(torch.optim.SGD):
    """A base of which nobody knows whether it looks at the parameters."""


def test_bfloat16_parameters_learn_it_with_any_base():
    parameter = torch.nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
    tuner = Mechanic(OwnSgd([parameter], lr=1e-5, momentum=0.5), s_init=1.0)
    for _ in range(400):
        parameter.grad = torch.ones_like(parameter)
        tuner.step()
    assert float(tuner.state[parameter]["direction"].mean()) == pytest.approx(-800e-5, rel=1e-2)
    assert float(parameter.detach().mean()) < 1.0
    assert parameter.dtype == torch.bfloat16
    assert tuner.param_groups[0]["params"] == [parameter]


@pytest.mark.parametrize(
    "make", [lambda p: torch.optim.AdamW(p), lambda p: torch.optim.SGD(p, momentum=0.9, fused=True), lambda p: torch.optim.Adagrad(p, fused=True)]
)
def test_a_base_that_was_in_use_with_bfloat16_parameters_goes_on_in_full_precision(make):
    parameters = make_parameters(torch.bfloat16)
    record = recorded(20, missing=False)
    base = follow(make(parameters), parameters, record[:10])
    tuner = follow(Mechanic(base, s_init=0.1), parameters, record[10:])
    assert float(tuner.scale) > 0.0
    kept = [value for state in base.state.values() for value in state.values() if isinstance(value, torch.Tensor) and value.dim()]
    assert kept
    assert all(value.dtype == torch.float32 for value in kept)


def test_a_state_that_does_not_fit_is_refused_and_nothing_is_loaded():
    parameters, others = make_parameters(), [torch.nn.Parameter(torch.zeros(9)) for _ in SHAPES]
    saved = follow(Mechanic(torch.optim.AdamW(groups(parameters))), parameters, recorded(10)).state_dict()
    for other, words in (
        (Mechanic(torch.optim.AdamW(groups(others))), "was saved with shape"),
        (Mechanic(torch.optim.AdamW(others)), "parameter groups"),
        (Mechanic(torch.optim.AdamW(groups(make_parameters())), betas=(0.9, 0.99)), "bettors .* use the betas"),
    ):
        with pytest.raises(ValueError, match=words):
            other.load_state_dict(saved)
        assert not other.state
        assert not other.base.state


SPOILT = {
    "a moment of another size": (lambda s: s["base"][0].update(exp_avg=torch.zeros(1)), "exp_avg of parameter 0 was saved with shape"),
    "a moment that is a single number": (lambda s: s["base"][0].update(exp_avg=torch.zeros(())), "exp_avg of parameter 0 was saved with shape"),
    "no second moment": (lambda s: s["base"][1].pop("exp_avg_sq"), "base's state of parameter 1 lacks exp_avg_sq"),
    "a base without moments": (lambda s: [group.pop("betas") for group in s["param_groups"]], "around another base"),
    "no numbers of the tuner": (lambda s: s["tuner"].pop("inner"), "no bettors, inner, skipped"),
    "no base": (lambda s: s.pop("base"), "around another base"),
    "no direction": (lambda s: s["state"][0].pop("direction"), "state of parameter 0 holds reference"),
    "another parameter": (lambda s: s["base"].update({9: {}}), "of parameter 9"),
    "another scale to start from": (lambda s: s["settings"].update(s_init=0.5), "saved with s_init 0.5, here it is"),
    "as many other betas": (lambda s: s["settings"].update(betas=[0.5] * 6), "saved with betas"),
    "a base with the same settings": (lambda s: s["settings"].update(base="RAdam"), "saved with base RAdam, here it is AdamW"),
    "nothing": (lambda s: s.clear(), "no parameter groups"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_state_that_lacks_something_is_refused_and_nothing_is_loaded(fault):
    spoil, words = SPOILT[fault]
    parameters = make_parameters()
    tuner = follow(Mechanic(torch.optim.AdamW(parameters)), parameters, recorded(5, missing=False))
    saved, before = copy.deepcopy(tuner.state_dict()), copy.deepcopy(tuner.state_dict())
    spoil(saved)
    with pytest.raises(ValueError, match=words):
        tuner.load_state_dict(saved)
    after = tuner.state_dict()
    assert float(tuner.scale) > 0.0
    assert all(torch.equal(after["state"][0][name], tensor) for name, tensor in before["state"][0].items())
    assert torch.equal(after["base"][0]["exp_avg"], before["base"][0]["exp_avg"])


@pytest.mark.parametrize("make", [lambda p: Mechanic(torch.optim.AdamW(p), s_init=0.1), RelativeMechanic], ids=["Mechanic", "RelativeMechanic"])
def test_positions_that_json_has_made_strings_of_are_positions(make):
    mine = make_parameters()
    tuner = follow(make(mine), mine, recorded(20)[:10])
    again = [torch.nn.Parameter(tensor.detach().clone()) for tensor in mine]
    resumed, saved = make(again), copy.deepcopy(tuner.state_dict())
    named = {part: {str(index): entry for index, entry in saved[part].items()} for part in ("state", "base") if part in saved}
    resumed.load_state_dict({**saved, **named})
    follow(tuner, mine, recorded(20)[10:])
    follow(resumed, again, recorded(20)[10:])
    assert all(torch.equal(a, b) for a, b in zip(mine, again, strict=True))
    assert all(isinstance(index, int) for part in ("state", "base") for index in resumed.state_dict().get(part, {}))


@pytest.mark.parametrize("fused", [False, True])
def test_parameters_of_another_layout_go_the_same_way_also_after_a_load(fused):
    generator = torch.Generator().manual_seed(0)
    start, record = torch.randn(4, 3, 3, 3, generator=generator), [torch.randn(4, 3, 3, 3, generator=generator) for _ in range(20)]

    def make(layout):
        parameter = torch.nn.Parameter(start.clone().contiguous(memory_format=layout))
        return parameter, Mechanic(torch.optim.AdamW([parameter], lr=0.01, fused=fused), s_init=0.1)

    ends = []
    for layout in (torch.contiguous_format, torch.channels_last):
        parameter, tuner = make(layout)
        follow(tuner, [parameter], [[gradient] for gradient in record[:10]])
        again, other = make(layout)
        with torch.no_grad():
            again.copy_(parameter)
        other.load_state_dict(copy.deepcopy(tuner.state_dict()))
        for gradient in record[10:]:
            again.grad = gradient.contiguous(memory_format=layout)
            other.step()
        ends.append(again.detach())
    assert float((ends[0] - start).norm()) > 0.1
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-4, atol=1e-5)


def test_a_sparse_gradient_after_a_dense_one_is_refused():
    table = torch.nn.Embedding(5, 2, sparse=True)
    tuner = Mechanic(torch.optim.SGD(table.parameters(), lr=0.1))
    table.weight.grad = torch.ones(5, 2)
    tuner.step()
    table.weight.grad = torch.ones(5, 2).to_sparse()
    with pytest.raises(TypeError, match="dense real gradients"):
        tuner.step()


def test_a_tuner_without_parameters_can_be_saved_and_loaded():
    tuner = Mechanic(torch.optim.SGD([{"params": []}], lr=1.0))
    tuner.load_state_dict(tuner.state_dict())
    assert float(tuner.scale) == 0.0


def test_a_copy_with_a_scheduler_steps_its_own_parameters():
    mine = make_parameters()
    tuner = Mechanic(torch.optim.AdamW(mine, lr=1.0), s_init=0.1)
    torch.optim.lr_scheduler.LambdaLR(tuner, lambda step: 0.9**step)
    follow(tuner, mine, recorded(5))
    other, theirs = copy.deepcopy((tuner, mine))
    before = [[tensor.detach().clone() for tensor in parameters] for parameters in (mine, theirs)]
    follow(other, theirs, recorded(5, seed=2))
    assert all(torch.equal(a, b) for a, b in zip(mine, before[0], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(theirs, before[1], strict=True))


@pytest.mark.parametrize("base", ["SGD with momentum and decay", "AdamW, fused", "a base that looks at the parameters"])
def test_state_through_safetensors_continues_bit_equally_in_another_model(base):
    record = recorded(60)
    mine = make_parameters(torch.float32)
    tuner = follow(Mechanic(BASES[base](groups(mine))), mine, record[:30])
    saved = tuner.state_dict()
    tensors = {f"{part}.{index}.{name}": t for part in ("state", "base") for index, entry in saved[part].items() for name, t in entry.items() if t is not None}
    tensors |= {f"tuner.0.{name}": tensor for name, tensor in saved["tuner"].items()}
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    wire = load(save({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}))
    back = {"state": {}, "base": {}, "tuner": {}}
    for name, tensor in wire.items():
        part, index, key = name.split(".")
        (back[part] if part == "tuner" else back[part].setdefault(int(index), {}))[key] = tensor
    again = [torch.nn.Parameter(tensor.detach().clone()) for tensor in mine]
    resumed = Mechanic(BASES[base](groups(again)))
    resumed.load_state_dict({**back, "param_groups": saved["param_groups"]})
    follow(tuner, mine, record[30:])
    follow(resumed, again, record[30:])
    assert all(torch.equal(a, b) for a, b in zip(mine, again, strict=True))
    assert torch.equal(tuner.scale, resumed.scale)


def test_a_base_that_looks_at_bfloat16_parameters_goes_on_bit_equally():
    record, mine = recorded(40), make_parameters(torch.bfloat16)
    tuner = follow(Mechanic(OwnSgd(mine, lr=0.1, momentum=0.9), s_init=0.1), mine, record[:20])
    again = [torch.nn.Parameter(tensor.detach().clone()) for tensor in mine]
    resumed = Mechanic(OwnSgd(again, lr=0.1, momentum=0.9), s_init=0.1)
    resumed.load_state_dict(copy.deepcopy(tuner.state_dict()))
    follow(tuner, mine, record[20:])
    follow(resumed, again, record[20:])
    for a, b in zip(mine, again, strict=True):
        assert torch.equal(tuner.state[a]["direction"], resumed.state[b]["direction"])


def test_a_copy_goes_its_own_way():
    record = recorded(40)
    mine = make_parameters()
    tuner = follow(Mechanic(torch.optim.AdamW(mine, lr=1.0)), mine, record[:20])
    other, theirs = copy.deepcopy((tuner, mine))
    follow(tuner, mine, record[20:])
    before = [tensor.detach().clone() for tensor in mine]
    follow(other, theirs, record[20:])
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True)), "the same way, since it saw the same"
    assert all(torch.equal(a, b) for a, b in zip(mine, before, strict=True)), "and not in the same memory"


def test_a_scheduler_may_hang_on_tuner_or_base():
    results = []
    for on_base in (True, False):
        parameters = make_parameters()
        base = torch.optim.AdamW(parameters, lr=1.0)
        tuner = Mechanic(base)
        schedule = torch.optim.lr_scheduler.LambdaLR(base if on_base else tuner, lambda step: 0.9**step)
        for row in recorded(20, missing=False):
            follow(tuner, parameters, [row])
            schedule.step()
        assert tuner.param_groups[0]["lr"] == base.param_groups[0]["lr"] == pytest.approx(0.9**20)
        results.append(parameters)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_group_that_is_added_later_starts_from_where_it_is():
    mine, plain = make_parameters(), make_parameters()
    pair = []
    for parameters, make in ((mine, Mechanic), (plain, ReferenceMechanic)):
        base = torch.optim.AdamW(parameters[:2], lr=1.0)
        tuner = make(base)
        for row in recorded(10, missing=False):
            follow(tuner, parameters, [row])
        (tuner if make is Mechanic else base).add_param_group({"params": parameters[2:], "lr": 0.5})
        follow(tuner, parameters, recorded(30, seed=5))
        pair.append(parameters)
    for a, b in zip(*pair, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_base_that_was_in_use_keeps_its_moments():
    mine, plain = make_parameters(), make_parameters()
    record = recorded(20, missing=False)
    for parameters, make in ((mine, Mechanic), (plain, ReferenceMechanic)):
        base = follow(torch.optim.AdamW(parameters, lr=0.01), parameters, record[:10])
        follow(make(base), parameters, record[10:])
    for a, b in zip(mine, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_base_that_was_in_use_in_double_precision_goes_on_in_that_of_the_parameters():
    wide, mine, record = make_parameters(), make_parameters(torch.float32), recorded(20, missing=False)
    base, narrow = (follow(torch.optim.AdamW(parameters, lr=0.01, fused=True), parameters, record[:10]) for parameters in (wide, mine))
    for parameter in wide:
        parameter.data, parameter.grad = parameter.data.float(), None
    follow(Mechanic(base, s_init=0.1), wide, record[10:])
    follow(Mechanic(narrow, s_init=0.1), mine, record[10:])
    for a, b in zip(wide, mine, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [lambda p: Mechanic(torch.optim.AdamW(p, fused=True)), lambda p: Mechanic(torch.optim.SGD(p, lr=1.0)), RelativeMechanic])
def test_a_parameter_whose_precision_changes_goes_on_in_that_of_its_tuner(make):
    changed, stays, record = make_parameters(), make_parameters(), recorded(20, missing=False)
    first, second = make(changed), make(stays)
    for parameters, tuner in ((changed, first), (stays, second)):
        follow(tuner, parameters, record[:10])
    for parameter in changed:
        parameter.data, parameter.grad = parameter.data.float(), None
    for parameters, tuner in ((changed, first), (stays, second)):
        follow(tuner, parameters, record[10:])
    for a, b in zip(changed, stays, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(200,), (10,), (50, 2), (100, 1)])
def test_a_parameter_that_has_changed_its_shape_is_refused_and_nothing_moves(shape):
    parameter, other = torch.nn.Parameter(torch.ones(100)), torch.nn.Parameter(torch.ones(3))
    tuner = Mechanic(torch.optim.AdamW([parameter, other], fused=True))
    for _ in range(3):
        parameter.grad, other.grad = torch.ones(100), torch.ones(3)
        tuner.step()
    before = copy.deepcopy(tuner.state_dict())
    parameter.grad = None
    parameter.data = torch.ones(shape)
    parameter.grad = torch.ones(shape)
    with pytest.raises(ValueError, match=r"had shape \(100,\) and has"):
        tuner.step()
    assert torch.equal(tuner.state_dict()["tuner"]["bettors"], before["tuner"]["bettors"])
    assert torch.equal(tuner.state_dict()["base"][1]["exp_avg"], before["base"][1]["exp_avg"])


def test_a_closure_runs_with_gradients_and_grad_mode_and_gradients_are_left_as_they_were():
    parameter = torch.nn.Parameter(torch.ones(3))
    tuner = Mechanic(torch.optim.SGD([parameter], lr=0.1, weight_decay=0.1))

    def closure():
        tuner.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert tuner.step(closure).item() == pytest.approx(3.0)
    assert torch.is_grad_enabled()
    assert torch.equal(parameter.grad, torch.full((3,), 2.0))
    tuner.zero_grad()
    assert parameter.grad is None
    assert tuner.param_groups[0]["weight_decay"] == 0.1
    assert tuner.param_groups[0]["params"] == [parameter]


def test_parameters_that_are_not_contiguous_in_memory_are_as_good_as_others():
    plain = make_parameters(torch.float32)
    mine = [torch.nn.Parameter(tensor.detach().mT.contiguous().mT if tensor.ndim == 2 else tensor.detach().clone()) for tensor in plain]
    assert not mine[0].is_contiguous()
    record = recorded(50)
    follow(Mechanic(torch.optim.AdamW(mine, lr=0.1), s_init=0.1), mine, record)
    follow(Mechanic(torch.optim.AdamW(plain, lr=0.1), s_init=0.1), plain, record)
    for a, b in zip(mine, plain, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"s_init": 0.0}, "s_init is 0.0"), ({"betas": ()}, "betas"), ({"betas": (1.5,)}, "betas"), ({"s_decay": -1.0}, "s_decay"), ({"eps": math.nan}, "eps")],
)
def test_a_number_out_of_range_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Mechanic(torch.optim.SGD(make_parameters(), lr=0.1), **options)


def test_what_it_cannot_scale_is_refused():
    with pytest.raises(TypeError, match="LBFGS"):
        Mechanic(torch.optim.LBFGS(make_parameters()))
    parameter = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    parameter.grad = torch.ones_like(parameter)
    with pytest.raises(TypeError, match="dense real gradients"):
        Mechanic(torch.optim.SGD([parameter], lr=0.1)).step()


def test_hooks_of_saving_and_loading_are_called():
    parameters, heard = make_parameters(), []
    tuner = follow(Mechanic(torch.optim.AdamW(parameters, lr=1.0)), parameters, recorded(3))
    tuner.register_state_dict_pre_hook(lambda own: heard.append("before saving"))
    tuner.register_state_dict_post_hook(lambda own, saved: {**saved, "note": "mine"})
    tuner.register_load_state_dict_pre_hook(lambda own, saved: heard.append(saved.pop("note")))
    tuner.register_load_state_dict_post_hook(lambda own: heard.append("after loading"))
    saved = tuner.state_dict()
    tuner.load_state_dict(saved)
    assert heard == ["before saving", "mine", "after loading"]
    assert saved["note"] == "mine"  # loading changes nothing of what it is given


@pytest.mark.parametrize("base", [torch.optim.SGD, Nudged])
def test_a_state_that_is_replaced_begins_anew(base):
    parameters = make_parameters()
    tuner = follow(Mechanic(base(parameters, lr=0.1), s_init=0.1), parameters, recorded(3, missing=False))
    tuner.state = collections.defaultdict(dict)
    before = [tensor.detach().clone() for tensor in parameters]
    follow(tuner, parameters, recorded(3, missing=False))
    assert all(not torch.equal(tensor, old) for tensor, old in zip(parameters, before, strict=True))
