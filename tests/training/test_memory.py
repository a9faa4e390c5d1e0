"""A batch that does not fit is computed in parts, with the gradient of the whole."""

import logging
from collections.abc import Callable
from typing import Any

import lightning
import pytest
import torch

from mace_gaunt.errors import UserError
from mace_gaunt.model.compiled import CompileError
from mace_gaunt.model.gradients import edge_gradient
from mace_gaunt.training import compilation, module
from mace_gaunt.training.memory import is_out_of_memory


class Gradients(lightning.Callback):
    """Keeps the gradients of every step."""

    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.kept.append(torch.cat([parameter.grad.flatten() for parameter in pl_module.parameters()]))


class Fails(torch.autograd.Function):
    """The identity, whose derivative finds no memory."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def limit_memory(monkeypatch: pytest.MonkeyPatch, edges: int, when: str) -> None:
    real = module.predict

    def predict(model: Any, batch: Any, training: bool = False, **options: Any) -> Any:
        found = real(model, batch, training=training, **options)
        if training and batch.num_edges > edges:
            if when == "forward":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            found["forces"] = Fails.apply(found["forces"])
        return found

    monkeypatch.setattr(module, "predict", predict)


@pytest.mark.parametrize("when", ["forward", "backward"])
def test_the_gradient_is_that_of_the_whole(
    train: Callable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    whole, parts = Gradients(), Gradients()
    expected = train(2, "whole", callbacks=(whole,))
    limit_memory(monkeypatch, 25, when)
    with caplog.at_level(logging.WARNING, "mace_gaunt"):
        found = train(2, "parts", callbacks=(parts,))
    assert any("out of memory: from here on batches are computed in parts" in text for text in caplog.messages)
    assert len(whole.kept) == len(parts.kept) == 6
    for one, other in zip(whole.kept, parts.kept, strict=True):
        assert (one - other).abs().max() < 1e-10 * one.abs().max()
    losses = [run.trainer.callback_metrics["train/loss"].item() for run in (expected, found)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)


def test_a_batch_that_does_not_fit_where_compiling_is_checked(
    train: Callable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That is no failure of the compiler: the training goes on in parts, compiled."""
    compared: list[int] = []

    def compiled(model: Any) -> Any:
        def gradient(vectors: torch.Tensor, *rest: Any) -> Any:
            compared.append(2 * len(vectors))
            if compared[-1] > 25:
                try:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
                except RuntimeError as error:
                    raise CompileError("OutOfMemoryError: CUDA out of memory") from error
            return edge_gradient(model, vectors, *rest)

        return gradient

    monkeypatch.setattr(compilation, "CompiledGradient", compiled)
    monkeypatch.setattr(compilation, "missing_compiler", lambda: False)
    whole, parts = Gradients(), Gradients()
    train(1, "whole", callbacks=(whole,))
    with caplog.at_level(logging.INFO, "mace_gaunt"):
        train(1, "parts", callbacks=(parts,), compile="on")
    assert any("out of memory: from here on batches are computed in parts" in text for text in caplog.messages)
    assert any("compiled and eager agree" in text for text in caplog.messages)
    assert compared[0] > 25 >= compared[-1]
    for one, other in zip(whole.kept, parts.kept, strict=True):
        assert (one - other).abs().max() < 1e-10 * one.abs().max()


def test_a_structure_that_is_too_large_alone(train: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_memory(monkeypatch, 3, "backward")
    with pytest.raises(UserError, match=r"not enough memory for a single structure of \d+ edges \(frame \d+"):
        train(1)


def test_accumulated_batches_cannot_be_begun_anew(train: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_memory(monkeypatch, 25, "forward")
    with pytest.raises(UserError, match=r"give max_edges_per_pass=\d+"):
        train(1, trainer={"accumulate_grad_batches": 2})


def test_other_errors_are_none_of_memory(train: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **options: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(module, "predict", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(1)
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(ValueError())
