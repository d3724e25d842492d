"""Linear layers by oneDNN: the same numbers and gradients as torch's own."""

import pytest
import torch
from torch import nn

from mechanic_rl_ros.policy import linear
from mechanic_rl_ros.policy.linear import WORTH, Linear, TwinLinear

ROWS, INPUTS, OUTPUTS = 128, 160, 112  # more than WORTH multiplications


@pytest.fixture(autouse=True)
def another_maker(monkeypatch):
    """Whatever processor this is, it counts as one that is not Intel's."""
    monkeypatch.setattr(linear, "INTEL", False)


def by_torch(layer, inputs):
    if isinstance(layer, TwinLinear):
        return torch.baddbmm(layer.bias, inputs, layer.weight.mT)
    return nn.functional.linear(inputs, layer.weight, layer.bias)


def gradients(layer, inputs, outputs):
    layer.zero_grad()
    weights = torch.linspace(-1, 1, outputs.numel()).reshape(outputs.shape).to(outputs.dtype)
    (outputs * weights).sum().backward()
    found = [inputs.grad.clone(), *(parameter.grad.clone() for parameter in layer.parameters())]
    inputs.grad = None
    return found


@pytest.mark.parametrize("make", [Linear, TwinLinear, lambda inputs, outputs: Linear(inputs, outputs, bias=False)])
def test_a_large_product_goes_through_onednn_and_equals_torch(make):
    assert ROWS * INPUTS * OUTPUTS >= WORTH
    layer = make(INPUTS, OUTPUTS)
    inputs = torch.randn(*((2,) if isinstance(layer, TwinLinear) else ()), ROWS, INPUTS, requires_grad=True)
    outputs, wanted = layer(inputs), by_torch(layer, inputs)
    assert "_Product" in type(outputs.grad_fn).__name__
    torch.testing.assert_close(outputs, wanted, atol=1e-4, rtol=1e-4)
    for found, expected in zip(gradients(layer, inputs, outputs), gradients(layer, inputs, wanted), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(layer(inputs), wanted, atol=1e-4, rtol=1e-4)


def test_two_layers_of_the_same_rows_are_one_product(monkeypatch):
    calls, genuine = [], linear._linear
    monkeypatch.setattr(linear, "_linear", lambda *parts: calls.append(1) or genuine(*parts))
    layer, inputs = TwinLinear(INPUTS, OUTPUTS), torch.randn(ROWS, INPUTS, requires_grad=True)
    torch.nn.init.normal_(layer.bias)
    outputs, wanted = layer(inputs), torch.baddbmm(layer.bias, inputs.expand(2, -1, -1), layer.weight.mT)
    assert len(calls) == 1
    torch.testing.assert_close(outputs, wanted, atol=1e-4, rtol=1e-4)
    for found, expected in zip(gradients(layer, inputs, outputs), gradients(layer, inputs, wanted), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)


def test_dimensions_before_the_rows_are_kept():
    layer, inputs = Linear(INPUTS, OUTPUTS), torch.randn(4, ROWS, INPUTS)
    torch.testing.assert_close(layer(inputs), by_torch(layer, inputs), atol=1e-4, rtol=1e-4)


def test_gradients_are_made_only_for_what_needs_them():
    layer = Linear(INPUTS, OUTPUTS)
    layer.weight.requires_grad_(False)
    layer(torch.randn(ROWS, INPUTS)).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(layer.bias.grad, torch.full((OUTPUTS,), float(ROWS)))


@pytest.mark.parametrize("inputs", [torch.randn(2, INPUTS), torch.randn(ROWS, INPUTS, dtype=torch.float64), torch.randn(2, 3, INPUTS)])
def test_what_onednn_is_not_for_goes_through_torch(inputs):
    layer = Linear(INPUTS, OUTPUTS).to(inputs.dtype)
    assert torch.equal(layer(inputs), by_torch(layer, inputs))


def test_without_onednn_torch_does_it(monkeypatch):
    monkeypatch.setattr(linear, "_linear", None)
    layer, twin = Linear(INPUTS, OUTPUTS), TwinLinear(INPUTS, OUTPUTS)
    inputs = torch.randn(2, ROWS, INPUTS)
    assert torch.equal(layer(inputs[0]), by_torch(layer, inputs[0]))
    assert torch.equal(twin(inputs), by_torch(twin, inputs))


def test_on_processors_of_intel_only_large_layers_without_gradients_go_through_onednn(monkeypatch):
    calls, own = [], linear._linear
    monkeypatch.setattr(linear, "INTEL", True)
    monkeypatch.setattr(linear, "_linear", lambda *parts: calls.append(parts[1].numel()) or own(*parts))
    small, large = Linear(INPUTS, OUTPUTS), Linear(1024, 1024)
    large(torch.randn(4, 1024)).sum().backward()
    with torch.no_grad():
        small(torch.randn(ROWS, INPUTS))
        large(torch.randn(4, 1024))
    assert calls == [1024 * 1024]


@pytest.mark.parametrize(("maker", "expected"), [("AuthenticAMD", False), ("GenuineIntel", True), ("", False)])
def test_the_maker_of_the_processor_is_read_where_the_system_tells_it(tmp_path, maker, expected):
    description = tmp_path / "cpuinfo"
    if maker:
        description.write_text(f"vendor_id\t: {maker}\n")
    assert linear._is_of_intel(description) is expected
