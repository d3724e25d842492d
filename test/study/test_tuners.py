"""Every optimizer of a study does what the learner needs of one."""

import copy

import pytest
import torch

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.study.tuners import ABLATIONS, CONTROLS, RATES, Cell, factory, grid


def descend(cell, role, steps=200):
    """Parameters and tuner after some steps towards 1."""
    parameters = [torch.nn.Parameter(torch.full((6, 4), 0.2)), torch.nn.Parameter(torch.zeros(4))]
    tuner = factory(cell)(iter(parameters), role)
    for _ in range(steps):
        tuner.zero_grad()
        sum(((parameter - 1.0) ** 2).sum() for parameter in parameters).backward()
        tuner.step()
    return parameters, tuner


@pytest.mark.parametrize("role", ["actor", "critic"])
@pytest.mark.parametrize("name", ["relative", *ABLATIONS, *CONTROLS])
def test_it_moves_towards_the_goal_and_says_what_acts(name, role):
    parameters, tuner = descend(Cell(name), role)
    averages = tuner.averages()
    assert [tensor.shape for tensor in averages] == [parameter.shape for parameter in parameters]
    if name != "mechanic":  # as published, it has hardly begun
        assert float((averages[0] - 1.0).abs().max()) < 0.79
    assert all(bool(torch.isfinite(tensor).all()) and not tensor.requires_grad for tensor in averages)
    assert tuner.scale > 0.0


@pytest.mark.parametrize("name", ["relative", *ABLATIONS, *CONTROLS])
def test_before_its_first_step_the_start_acts(name):
    parameters, tuner = descend(Cell(name), "actor", steps=0)
    assert all(torch.equal(average, parameter.detach()) for average, parameter in zip(tuner.averages(), parameters, strict=True))


def test_the_rate_of_a_cell_is_that_of_its_role():
    near, far = (descend(Cell("adamw", 1e-4, 1e-2), role, steps=10)[0][0] for role in ("actor", "critic"))
    assert float(near.detach().mean()) == pytest.approx(0.2 + 10 * 1e-4, rel=1e-2)
    assert float(far.detach().mean()) == pytest.approx(0.2 + 10 * 1e-2, rel=1e-2)


def test_the_average_of_schedule_free_is_its_own():
    parameters, tuner = descend(Cell("schedule-free"), "actor")
    mine = tuner.averages()
    other = copy.deepcopy((tuner._optimizer, parameters))
    other[0].eval()
    for a, b in zip(mine, other[1], strict=True):
        torch.testing.assert_close(a, b.detach())


def test_a_uniform_average_gives_every_step_the_same_weight():
    parameter = torch.nn.Parameter(torch.zeros(4))
    tuner, seen = factory(Cell("averaged"))(iter([parameter]), "critic"), []
    for _ in range(20):
        parameter.grad = parameter.detach() - 1.0
        tuner.step()
        seen.append(parameter.detach().clone())
    torch.testing.assert_close(tuner.averages()[0], torch.stack(seen).mean(dim=0))


def test_without_bettors_the_scale_stays_where_the_tuner_gives_way():
    scales = {}
    for name in ("relative", "no-bettors"):
        parameter = torch.nn.Parameter(torch.randn(64, generator=torch.Generator().manual_seed(3)))
        tuner, generator = factory(Cell(name))(iter([parameter]), "actor"), torch.Generator().manual_seed(4)
        for _ in range(600):
            parameter.grad = torch.randn(64, generator=generator)
            moved = tuner.state[parameter].get("direction")
            if moved is not None and moved.any():  # noise across the way and a slope along it that always says "too far"
                parameter.grad += (5.0 - parameter.grad.dot(moved)) / moved.square().sum() * moved
            tuner.step()
        scales[name] = tuner.scale
    assert scales["no-bettors"] == pytest.approx(1.0)
    assert scales["relative"] < 0.9


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_gradients_can_come_in_another_unit(factor):
    plain, scaled = ([torch.nn.Parameter(torch.full((6, 4), 0.2))] for _ in range(2))
    tuners = [factory(Cell("relative"))(iter(plain), "actor"), factory(Cell("relative"), factor)(iter(scaled), "actor")]
    for _ in range(50):
        for parameters, tuner in zip((plain, scaled), tuners, strict=True):
            parameters[0].grad = parameters[0].detach() - 1.0
            tuner.step()
    assert float(scaled[0].grad.abs().max()) == pytest.approx(factor * float(plain[0].grad.abs().max()), rel=1e-3)
    torch.testing.assert_close(tuners[0].averages()[0], tuners[1].averages()[0], atol=1e-3, rtol=1e-3)
    assert tuners[1].scale == pytest.approx(tuners[0].scale, rel=1e-2)


def test_the_grid_has_every_pair_of_rates_from_the_middle_outwards_and_every_cell_its_own_name():
    cells = grid()
    assert len(cells) == len(RATES) ** 2
    assert len({cell.name for cell in cells}) == len(cells)
    assert cells[0].name == "adamw_3e-04_3e-04"
    assert not {1e-5, 1e-2} & {rate for cell in cells[:25] for rate in (cell.actor_rate, cell.critic_rate)}


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(UserError, match=r"relative, no-bettors, mechanic, .* averaged"):
        factory(Cell("magic"))
