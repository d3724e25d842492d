"""The published tuner against the implementations of others. Where they differ from the paper, a twin with that dialect shows it to be all the difference."""

import numpy as np
import pytest
import torch

from mechanic_rl_ros.tuner import Mechanic
from mechanic_rl_ros.tuner.reference import ReferenceMechanic, norm

STEPS = 120


def gradients(steps=STEPS, size=40):
    """A record of noisy gradients that mostly agree, float64 (steps, size)."""
    return np.random.default_rng(3).normal(0.2, 1.0, (steps, size))


def follow(optimizer, parameter, record=None):
    for gradient in gradients() if record is None else record:
        parameter.grad = torch.tensor(gradient, dtype=parameter.dtype)
        optimizer.step()
    return optimizer


def make_parameter():
    return torch.nn.Parameter(torch.linspace(-1.0, 1.0, 40, dtype=torch.float64))


class PytorchDialect(ReferenceMechanic):
    """mechanic-pytorch: the maximum starts at 1e-6 instead of 0, so that the first scale is about 98 s_init; the pull is taken after the base's step."""

    def __init__(self, base):
        super().__init__(base)
        self.m = [1e-6] * len(self.betas)

    @torch.no_grad()
    def step(self):
        for p in (p for group in self.base.param_groups for p in group["params"] if p not in self.D):
            self.x_ref[p], self.D[p] = p.clone(), torch.zeros_like(p)
        x = {p: p.clone() for p in self.D}
        self.base.step()
        pull = self.s_decay * self.scale * norm({p: p.grad for p in self.D}) / (norm({p: p.detach() for p in self.D}) + self.eps)
        h = sum(float((self.D[p] * (p.grad + pull * p)).sum()) for p in self.D)
        for p in self.D:
            self.D[p] += p - x[p]
        self.bet(h)
        for p in self.D:
            p.copy_(self.x_ref[p] + self.scale * self.D[p])


class OptaxDialect:
    """optax: every bettor starts with s_init; D is computed back from x; the slope that a bettor is paid for is clipped to the maximum before it; the
    maximum has eps added; a reward may be negative. Around plain gradient descent of step 1."""

    betas, s_init, s_decay, eps = 1.0 - 0.1 ** np.arange(1, 7), 1e-3, 1e-2, 1e-8

    def __init__(self, x):
        self.x = self.x_ref = x.copy()
        self.m, self.v, self.r, self.s = np.zeros(6), np.zeros(6), np.zeros(6), np.full(6, self.s_init)

    def step(self, g):
        total = self.s.sum()
        before = (self.x - self.x_ref) / (total + self.eps)
        h = before @ (g + self.s_decay * total * np.linalg.norm(g) / (np.linalg.norm(self.x) + self.eps) * self.x)
        paid = np.clip(h, -self.m, self.m)
        self.m = np.maximum(self.betas * self.m, abs(h) + self.eps)
        self.v = self.betas**2 * self.v + h * h
        self.r = self.betas * self.r - paid * self.s
        self.s = (self.s_init / 6 * self.m + np.maximum(0.0, self.r)) / (np.sqrt(self.v) + self.eps)
        self.x = self.x_ref + self.s.sum() * (before - g)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_mechanic_pytorch_is_ours_but_for_its_first_maximum_and_the_moment_of_its_pull(name):
    from mechanic_pytorch import mechanize

    base = getattr(torch.optim, name)
    theirs, twin, ours = make_parameter(), make_parameter(), make_parameter()
    other = follow(mechanize(base, store_delta=True)([theirs], lr=0.1), theirs)
    dialect = follow(PytorchDialect(base([twin], lr=0.1)), twin)
    torch.testing.assert_close(theirs, twin, rtol=1e-4, atol=1e-5)  # its scalars are in single precision
    assert float(other.state["_mechanic"]["s"].sum()) == pytest.approx(dialect.scale, rel=1e-4)
    tuner = follow(Mechanic(base([ours], lr=0.1)), ours)
    assert float(tuner.scale) == pytest.approx(dialect.scale, rel=0.2), "the scale forgets how it began"


def test_the_first_scale_of_mechanic_pytorch_is_a_hundred_times_ours():
    from mechanic_pytorch import mechanize

    theirs, ours = make_parameter(), make_parameter()
    record = gradients(2)
    other = mechanize(torch.optim.SGD, store_delta=True)([theirs], lr=0.1)
    follow(other, theirs, record[:1])
    assert float(other.state["_mechanic"]["s"].sum()) == pytest.approx(98e-8, rel=0.05)
    assert float(follow(Mechanic(torch.optim.SGD([ours], lr=0.1)), ours, record).scale) == pytest.approx(1e-8, rel=1e-6)


def test_optax_is_ours_but_for_its_dialect():
    jax = pytest.importorskip("jax", reason="needs Python 3.11")
    optax = pytest.importorskip("optax")
    start = np.linspace(-1.0, 1.0, 40)
    with jax.enable_x64(True):
        x = jax.numpy.asarray(start)
        optimizer = optax.contrib.mechanize(optax.sgd(1.0), weight_decay=OptaxDialect.s_decay, eps=OptaxDialect.eps, s_init=OptaxDialect.s_init)
        state, twin = optimizer.init(x), OptaxDialect(start)
        for gradient in gradients():
            updates, state = optimizer.update(jax.numpy.asarray(gradient), state, x)
            x = optax.apply_updates(x, updates)
            twin.step(gradient)
            np.testing.assert_allclose(np.asarray(state.s), twin.s, rtol=1e-6)
        np.testing.assert_allclose(np.asarray(x), twin.x, rtol=1e-6, atol=1e-9)
    ours = make_parameter()
    tuner = follow(Mechanic(torch.optim.SGD([ours], lr=1.0), s_init=OptaxDialect.s_init), ours)
    assert float(tuner.scale) == pytest.approx(twin.s.sum(), rel=0.5), "of the same order"
