"""SOAP: the steps of the library's, taken together for all parameters of a shape."""

import copy

import pytest
import pytorch_optimizer
import torch

from mace_gaunt.training.soap import SOAP

# No dimension is larger than the others together: covariances of one gradient have no null space to choose axes in.
SHAPES = [(5,), (4, 4), (4, 4), (1, 2, 3, 4), (3, 3), (7,), (2, 3, 4)]


def parameters():
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in SHAPES]


def set_gradients(weights, step):
    """Those of a loss that couples all of them and changes with the step."""
    total = torch.stack([(weight.sin() * (1 + 0.1 * step)).sum() for weight in weights]).square().sum()
    bowl = torch.stack([((weight - index) ** 4).sum() for index, weight in enumerate(weights)]).sum()
    gradients = torch.autograd.grad(total + 0.1 * bowl, weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_are_those_of_the_library(weight_decay, monkeypatch):
    ours, theirs = parameters(), parameters()
    settings = {"lr": 0.02, "betas": (0.9, 0.95), "weight_decay": weight_decay, "precondition_frequency": 3}
    # It rounds to float32 before each QR decomposition.
    monkeypatch.setattr(torch, "float32", torch.float64)
    for weights, optimizer in ((ours, SOAP(ours, **settings)), (theirs, pytorch_optimizer.SOAP(theirs, **settings))):
        for step in range(20):
            set_gradients(weights, step)
            optimizer.step()
    for a, b, start in zip(ours, theirs, parameters(), strict=True):
        assert (a - b).abs().max() < 1e-10 < (a - start).abs().max()


def test_continues_from_its_state():
    one, other = parameters(), parameters()
    first, second = SOAP(one), SOAP(other)
    for step in range(12):
        set_gradients(one, step)
        first.step()
    state = copy.deepcopy(first.state_dict())
    with torch.no_grad():
        for a, b in zip(one, other, strict=True):
            b.copy_(a)
    second.load_state_dict(state)
    for step in range(12, 24):
        for weights, optimizer in ((one, first), (other, second)):
            set_gradients(weights, step)
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_state_needs_no_pickled_code(tmp_path):
    weights = parameters()
    optimizer = SOAP(weights)
    set_gradients(weights, 0)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "state")
    assert torch.load(tmp_path / "state", weights_only=True).keys() == {"state", "param_groups"}


def test_frozen_parameters_stay():
    weights = parameters()
    weights[1].requires_grad_(False)
    before = weights[1].clone()
    optimizer = SOAP(weights)
    for step in range(3):
        set_gradients([weight for weight in weights if weight.requires_grad], step)
        weights[3].grad = None
        optimizer.step()
    assert torch.equal(weights[1], before) and not torch.equal(weights[2], parameters()[2])


def test_turns_ill_scaled_directions():
    """A valley along a skewed direction: the mean square in the right basis is even, Adam's is not."""
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    scales = torch.logspace(0, 4, 6, dtype=torch.float64)

    def train(make):
        weight = torch.nn.Parameter(torch.ones(6, 6, dtype=torch.float64))
        optimizer = make([weight])
        for step in range(300):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 300)
            optimizer.zero_grad()
            loss = (scales[:, None] * (rotation @ weight) ** 2).sum()
            loss.backward()
            optimizer.step()
        return loss.item()

    assert train(SOAP) < 0.01 * train(torch.optim.Adam)


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"betas": (1.0, 0.9)}, {"precondition_frequency": 0}])
def test_arguments_out_of_range(wrong):
    with pytest.raises(ValueError, match=r"must not be|betas are"):
        SOAP(parameters(), **wrong)
