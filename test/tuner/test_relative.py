"""The tuner in relative units: equal to its readable twin, free of the gradient's unit, robust against bad gradients, resumable."""

import copy

import pytest
import torch
from safetensors.torch import load, save

from mechanic_rl_ros.tuner import RelativeMechanic, kernels
from mechanic_rl_ros.tuner.relative_reference import ReferenceRelativeMechanic


def make_parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(0.2 * torch.randn(5, 3, generator=generator)), torch.nn.Parameter(torch.zeros(4))]


def network_size(parameters) -> float:
    return float(torch.cat([tensor.detach().flatten() for tensor in parameters]).square().mean().sqrt())


def descend(tuner: RelativeMechanic, parameters, steps: int, seed: int = 1, noise: float = 0.3) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for tensor in parameters:
            tensor.grad = tensor.detach() - 1.0 + noise * torch.randn(tensor.shape, generator=generator)
        tuner.step()


@pytest.fixture(params=["compiled", "torch"])
def passes(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(kernels, "_library", lambda: None)


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize(("dtype", "precision"), [(torch.float64, 1e-12), (torch.float32, 2e-4)])
def test_the_tuner_equals_its_readable_twin(passes, dtype, precision, pretrained):
    parameters = [torch.nn.Parameter(tensor.detach().to(dtype)) for tensor in make_parameters()]
    tuner = RelativeMechanic(parameters, pretrained=pretrained)
    twins = [ReferenceRelativeMechanic(tensor.detach(), network_size(parameters), pretrained) for tensor in parameters]
    generator = torch.Generator().manual_seed(2)
    for _ in range(200):
        for tensor, twin in zip(parameters, twins, strict=True):
            # The twin's value: closed loops drift apart.
            tensor.grad = (twin.y - 1.0 + 0.3 * torch.randn(tensor.shape, generator=generator)).to(dtype)
            twin.step(tensor.grad)
        tuner.step()
    for tensor, average, twin in zip(parameters, tuner.averages(), twins, strict=True):
        torch.testing.assert_close(tensor.detach().double(), twin.y, atol=precision, rtol=precision)
        torch.testing.assert_close(average.double(), twin.x, atol=precision, rtol=precision)


def test_steps_of_torch_and_of_the_compiled_code_can_take_turns(monkeypatch):
    parameters, others = make_parameters(), make_parameters()
    tuner, other = RelativeMechanic(parameters), RelativeMechanic(others)
    for step in range(40):
        descend(tuner, parameters, 1, seed=step)
        with monkeypatch.context() as patch:
            if step % 2:
                patch.setattr(kernels, "_library", lambda: None)
            descend(other, others, 1, seed=step)
    for tensor, twin in zip([*parameters, *tuner.averages()], [*others, *other.averages()], strict=True):
        torch.testing.assert_close(tensor.detach(), twin.detach(), atol=1e-3, rtol=1e-3)
    assert other.scale == pytest.approx(tuner.scale, rel=1e-3)


def test_compiled_code_is_used_and_share_large_tensors_among_threads():
    assert kernels._library() is not None, f"{kernels.LIBRARY} is missing: run make"
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            parameters = [torch.nn.Parameter(torch.linspace(-1, 1, 1_700_000)), torch.nn.Parameter(torch.ones(1_500_001)), torch.nn.Parameter(torch.ones(7))]
            tuner = RelativeMechanic(parameters)
            for step in range(3):
                for tensor in parameters:
                    tensor.grad = torch.sin(torch.arange(tensor.numel()) + float(step))
                tuner.step()
            results.append([tensor.detach() for tensor in (*parameters, *tuner.averages())])
    finally:
        torch.set_num_threads(threads)
    for one, many in zip(*results, strict=True):
        torch.testing.assert_close(one, many, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("factor", [2.0**-10, 2.0**10, 2.0**-40])
def test_a_gradient_in_another_unit_makes_the_same_steps(passes, factor):
    parameters, others = make_parameters(), make_parameters()
    tuner, other = RelativeMechanic(parameters), RelativeMechanic(others)
    generator = torch.Generator().manual_seed(4)
    for _ in range(200):
        for tensor, twin in zip(parameters, others, strict=True):
            tensor.grad = tensor.detach() - 1.0 + 0.3 * torch.randn(tensor.shape, generator=generator)
            twin.grad = factor * tensor.grad
        tuner.step()
        other.step()
    for tensor, twin in zip([*parameters, *tuner.averages()], [*others, *other.averages()], strict=True):
        torch.testing.assert_close(tensor.detach(), twin.detach(), atol=2e-3, rtol=2e-3)


def test_parameters_of_low_precision_follow_those_of_full_precision():
    parameters = make_parameters()
    rounded = [torch.nn.Parameter(tensor.detach().bfloat16()) for tensor in parameters]
    for tensor, low in zip(parameters, rounded, strict=True):
        tensor.data = low.detach().float()  # the same start
    tuner, low_tuner = RelativeMechanic(parameters), RelativeMechanic(rounded)
    generator = torch.Generator().manual_seed(5)
    for _ in range(100):
        for tensor, low in zip(parameters, rounded, strict=True):
            low.grad = (tensor.detach() - 1.0 + 0.3 * torch.randn(tensor.shape, generator=generator)).bfloat16()
            tensor.grad = low.grad.float()
        tuner.step()
        low_tuner.step()
    assert low_tuner.state[rounded[0]]["direction"].dtype == torch.float32
    for tensor, low in zip([*parameters, *tuner.averages()], [*rounded, *low_tuner.averages()], strict=True):
        torch.testing.assert_close(tensor.detach(), low.detach().float(), atol=0.03, rtol=0.03)


def test_gradients_that_agree_for_ever_cannot_overflow_the_scale():
    parameter = torch.nn.Parameter(torch.ones(4))
    tuner = RelativeMechanic([parameter])
    for _ in range(3000):
        parameter.grad = -torch.ones(4)
        tuner.step()
    assert 0.0 < tuner.scale <= 1.0 + 1e-12
    assert bool(torch.isfinite(parameter.detach()).all())


def test_the_first_step_of_every_tensor_is_one_relative_unit_of_the_network():
    parameters = make_parameters()
    starts, size = [tensor.detach().clone() for tensor in parameters], network_size(parameters)
    tuner = RelativeMechanic(parameters)
    descend(tuner, parameters, 1)
    for tensor, start in zip(parameters, starts, strict=True):
        assert float((tensor.detach() - start).square().mean().sqrt()) == pytest.approx(0.05 * size, rel=0.05)
    assert tuner.scale == pytest.approx(1.0)


def test_steps_of_a_pretrained_network_grow_to_that_unit_over_five_hundred(passes):
    parameters = make_parameters()
    size, tuner = network_size(parameters), RelativeMechanic(parameters, pretrained=True)
    for step in range(1, 1001):
        before = [tuner.state[tensor].get("direction", torch.zeros_like(tensor)).clone() for tensor in parameters]
        descend(tuner, parameters, 1, seed=step, noise=1e3)  # of which every element of an update is about 1
        longest = min(1.0, step / 500) * 0.05 * size
        if step in (1, 250, 1000):
            for tensor, old in zip(parameters, before, strict=True):
                assert 0.3 * longest < float((tuner.state[tensor]["direction"] - old).square().mean().sqrt()) < 1.001 * longest
    assert tuner.scale == pytest.approx(1.0)


def test_a_network_that_is_all_zero_moves():
    parameter = torch.nn.Parameter(torch.zeros(4))
    tuner = RelativeMechanic([parameter])
    for _ in range(200):
        parameter.grad = parameter.detach() - 1.0
        tuner.step()
    assert float((tuner.averages()[0] - 1.0).abs().max()) < 0.3


def test_an_outsized_gradient_makes_no_outsized_step():
    parameter = torch.nn.Parameter(torch.ones(100))
    tuner = RelativeMechanic([parameter])
    descend(tuner, [parameter], 40)
    before = tuner.state[parameter]["direction"].clone()
    parameter.grad = torch.full((100,), 1e6)
    tuner.step()
    assert float((tuner.state[parameter]["direction"] - before).square().mean().sqrt()) <= 0.0501


@pytest.mark.parametrize("size", [0.001, 0.03, 1.0])
def test_progress_does_not_depend_on_the_size_of_the_problem(size):
    parameter = torch.nn.Parameter(torch.full((64,), size))
    tuner = RelativeMechanic([parameter])
    for _ in range(400):
        parameter.grad = parameter.detach() - 1.5 * size
        tuner.step()
    assert float((tuner.averages()[0] - 1.5 * size).abs().max()) < 0.1 * size


def test_gradients_are_forgotten_or_zeroed_as_asked():
    parameter = torch.nn.Parameter(torch.ones(3))
    tuner = RelativeMechanic([parameter])
    parameter.grad = torch.ones(3)
    tuner.zero_grad(set_to_none=False)
    assert parameter.grad.tolist() == [0.0, 0.0, 0.0]
    tuner.zero_grad()
    assert parameter.grad is None


def test_the_scale_is_the_mean_over_tensors_weighted_by_their_size():
    small, large = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(6))
    tuner = RelativeMechanic([small, large])
    small.grad, large.grad = torch.ones(2), torch.ones(6)
    tuner.step()
    tuner.state[small]["bettors"][3] = 0.5 / 6
    tuner.state[large]["bettors"][3] = 0.1 / 6
    assert tuner.scale == pytest.approx((2 * 0.5 + 6 * 0.1) / 8)


def test_the_scale_shrinks_where_the_slope_steadily_says_too_far():
    parameter = torch.nn.Parameter(torch.randn(64, generator=torch.Generator().manual_seed(3)))
    tuner = RelativeMechanic([parameter])
    generator = torch.Generator().manual_seed(4)
    for _ in range(1000):
        parameter.grad = torch.randn(64, generator=generator)
        moved = tuner.state[parameter].get("direction")
        if moved is not None and moved.any():  # noise across the way and the same slope along it, always
            parameter.grad += (5.0 - parameter.grad.dot(moved)) / moved.square().sum() * moved
        tuner.step()
    assert tuner.scale < 0.8


def test_noise_around_a_minimum_does_not_shrink_the_scale():
    parameter = torch.nn.Parameter(torch.randn(64, generator=torch.Generator().manual_seed(3)))
    minimum, tuner = parameter.detach().clone(), RelativeMechanic([parameter])
    generator = torch.Generator().manual_seed(4)
    for _ in range(500):
        parameter.grad = 0.3 * (parameter.detach() - minimum) + torch.randn(64, generator=generator)
        tuner.step()
        assert tuner.scale > 0.95  # though the slope mostly says that the way back is the better one


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_skipped_and_counted(bad):
    parameters = make_parameters()
    tuner = RelativeMechanic(parameters)
    descend(tuner, parameters, 5)
    before = [tensor.detach().clone() for tensor in parameters]
    for tensor in parameters:
        tensor.grad = torch.ones_like(tensor)
    parameters[0].grad[1, 1] = bad
    tuner.step()
    assert tuner.skipped == 1
    assert all(torch.equal(old, new) for old, new in zip(before, parameters, strict=True))
    descend(tuner, parameters, 5)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in [*parameters, *tuner.averages()])


def test_a_tensor_without_gradient_stays_and_all_without_is_no_step():
    parameters = make_parameters()
    tuner = RelativeMechanic(parameters)
    tuner.step()
    parameters[0].grad = torch.ones_like(parameters[0])
    tuner.step()
    assert torch.equal(parameters[1].detach(), torch.zeros(4))
    assert torch.equal(tuner.averages()[1], torch.zeros(4))
    assert not torch.equal(parameters[0].detach(), make_parameters()[0].detach())


def test_a_closure_runs_with_gradients_and_leaves_grad_mode_as_it_was():
    parameter = torch.nn.Parameter(torch.ones(3))
    tuner = RelativeMechanic([parameter])

    def closure():
        tuner.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert tuner.step(closure).item() == pytest.approx(3.0)
    assert torch.is_grad_enabled()


def test_state_through_safetensors_continues_bit_equally():
    parameters = make_parameters()
    tuner = RelativeMechanic(parameters)
    descend(tuner, parameters, 20)
    saved = tuner.state_dict()
    assert all(isinstance(key, int) for key in saved["state"])
    wire = load(save({f"{index}.{key}": tensor.contiguous() for index, entry in saved["state"].items() for key, tensor in entry.items()}))
    state = {index: {key: wire[f"{index}.{key}"] for key in entry} for index, entry in saved["state"].items()}
    again = [torch.nn.Parameter(tensor.detach().clone()) for tensor in parameters]
    resumed = RelativeMechanic(again)
    resumed.load_state_dict({"state": state, "param_groups": saved["param_groups"]})
    descend(tuner, parameters, 20, seed=9)
    descend(resumed, again, 20, seed=9)
    assert all(torch.equal(a, b) for a, b in zip([*parameters, *tuner.averages()], [*again, *resumed.averages()], strict=True))


def test_it_can_be_copied_and_take_another_group():
    parameters = make_parameters()
    tuner = RelativeMechanic(parameters)
    descend(tuner, parameters, 3)
    other, theirs = copy.deepcopy((tuner, parameters))
    left = [tensor.detach().clone() for tensor in parameters]
    descend(other, theirs, 3, seed=2)
    assert all(torch.equal(tensor, old) for tensor, old in zip(parameters, left, strict=True))
    descend(tuner, parameters, 3, seed=2)
    assert all(torch.equal(tensor, copied) for tensor, copied in zip(parameters, theirs, strict=True))
    late = torch.nn.Parameter(torch.ones(2))
    tuner.add_param_group({"params": [late]})
    descend(tuner, [*parameters, late], 3)
    assert len(tuner.averages()) == 3
    assert not torch.equal(late.detach(), torch.ones(2))


@pytest.mark.parametrize(
    ("others", "words"),
    [([(50, 3), (4,)], "was saved with shape"), ([(5, 3)], "parameter groups")],
    ids=["larger tensors", "fewer tensors"],
)
def test_a_state_that_does_not_fit_is_refused_and_nothing_is_loaded(others, words):
    parameters = make_parameters()
    tuner = RelativeMechanic(parameters)
    descend(tuner, parameters, 3)
    other = RelativeMechanic([torch.nn.Parameter(torch.zeros(shape)) for shape in others])
    with pytest.raises(ValueError, match=words):
        other.load_state_dict(tuner.state_dict())
    assert not other.state


def test_a_state_of_another_precision_goes_on_in_that_of_the_parameters(passes):
    wide = [torch.nn.Parameter(tensor.detach().double()) for tensor in make_parameters()]
    tuner = RelativeMechanic(wide)
    descend(tuner, wide, 10)
    parameters = [torch.nn.Parameter(tensor.detach().float()) for tensor in wide]
    other = RelativeMechanic(parameters)
    other.load_state_dict(tuner.state_dict())
    descend(tuner, wide, 10, noise=0.0)
    descend(other, parameters, 10, noise=0.0)
    assert other.skipped == 0
    for a, b in zip(parameters, wide, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


SPOILT = {
    "numbers that bettors lack": (lambda s: s["state"][0].update(bettors=torch.zeros(4, 5, dtype=torch.float64)), "bettors of parameter 0"),
    "no bettors": (lambda s: s["state"][0].pop("bettors"), "not tensors reference"),
    "no tensor": (lambda s: s["state"][0].update(step=3), "not tensors reference"),
    "nothing": (lambda s: s.clear(), "no parameter groups"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_state_that_lacks_something_is_refused(fault):
    spoil, words = SPOILT[fault]
    parameters = make_parameters()
    tuner = RelativeMechanic(parameters)
    descend(tuner, parameters, 3)
    saved = copy.deepcopy(tuner.state_dict())
    spoil(saved)
    with pytest.raises(ValueError, match=words):
        tuner.load_state_dict(saved)


def test_bettors_that_were_saved_in_single_precision_are_kept_in_double_as_compiled_code_reads_them():
    parameters = make_parameters()
    tuner = RelativeMechanic(parameters)
    descend(tuner, parameters, 3)
    saved = copy.deepcopy(tuner.state_dict())
    for entry in saved["state"].values():
        entry.update(bettors=entry["bettors"].float(), step=entry["step"].float())
    tuner.load_state_dict(saved)
    assert all(state[name].dtype == torch.float64 for state in tuner.state.values() for name in ("bettors", "step"))
    descend(tuner, parameters, 1)
    assert all(float(state["step"]) == 4.0 for state in tuner.state.values())


def test_a_parameter_that_has_changed_its_shape_is_refused():
    parameter = torch.nn.Parameter(torch.ones(4))
    tuner = RelativeMechanic([parameter])
    parameter.grad = torch.ones(4)
    tuner.step()
    parameter.data, parameter.grad = torch.ones(8), torch.ones(8)
    with pytest.raises(ValueError, match=r"had shape \(4,\) and has \(8,\) now"):
        tuner.step()


def test_what_it_cannot_move_is_refused_and_an_empty_tensor_is_no_trouble():
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3).to_sparse()
    with pytest.raises(TypeError, match="dense real gradients"):
        RelativeMechanic([parameter]).step()
    empty = torch.nn.Parameter(torch.zeros(0))
    empty.grad = torch.zeros(0)
    tuner = RelativeMechanic([empty])
    tuner.step()
    assert tuner.scale == 1.0


def test_the_scale_is_one_until_something_moves():
    parameter = torch.nn.Parameter(torch.ones(3))
    tuner = RelativeMechanic([parameter])
    parameter.grad = torch.full((3,), float("nan"))
    tuner.step()
    assert (tuner.scale, tuner.skipped) == (1.0, 1)
