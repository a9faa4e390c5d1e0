"""Averaged weights, checkpoints, tables, loggers and progress."""

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger

from mace_gaunt.errors import UserError
from mace_gaunt.files import write_csv
from mace_gaunt.training.callbacks import EMA, EMA_KEY, read_rows
from mace_gaunt.training.export import best_model, model_from_checkpoint
from mace_gaunt.training.loggers import SafeLogger
from mace_gaunt.training.progress import duration, errors_line


class Weights(lightning.Callback):
    """The weights after every optimizer step, and those each validation saw."""

    def __init__(self) -> None:
        self.trained: list[list[torch.Tensor]] = []
        self.validated: list[list[torch.Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.trained.append([parameter.detach().clone() for parameter in pl_module.parameters()])

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if len(self.validated) <= trainer.current_epoch:
            self.validated.append([parameter.detach().clone() for parameter in pl_module.parameters()])


def recursion(start: list[torch.Tensor], weights: list[list[torch.Tensor]], decay: float) -> list[list[torch.Tensor]]:
    """The average after each step, written out."""
    averages = [start]
    for n, step in enumerate(weights, start=1):
        d = min(decay, (1 + n) / (10 + n))
        averages.append([d * old + (1 - d) * new for old, new in zip(averages[-1], step, strict=True)])
    return averages


def assert_equal(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-15)


def test_average_is_validated_saved_and_exported(train: Callable, pair_potential: Callable) -> None:
    watch = Weights()
    run = train(3, callbacks=(watch,))
    start = [parameter.detach() for parameter in pair_potential().parameters()]
    averages = recursion(start, watch.trained, 0.9)[3::3]
    for validated, average in zip(watch.validated, averages, strict=True):
        assert_equal(validated, average)
    last = torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True)
    assert_equal(list(last["state_dict"].values()), averages[-1])
    assert_equal(list(last[EMA_KEY].values()), watch.trained[-1])
    best = torch.load(run.folder / "checkpoints/best.ckpt", weights_only=True)
    model = best_model(run.trainer, run.module)
    assert_equal(list(model.parameters()), averages[best["epoch"]])
    assert_equal(list(run.module.parameters()), watch.trained[-1])
    assert not model.training


def test_without_ema_the_weights_themselves_are_validated(train: Callable) -> None:
    watch = Weights()
    run = train(2, callbacks=(watch,), ema=False)
    assert_equal(watch.validated[-1], watch.trained[-1])
    assert_equal(list(best_model(run.trainer, run.module).parameters()), watch.trained[-1])


def test_without_a_validation_the_average_is_exported(train: Callable, pair_potential: Callable) -> None:
    watch = Weights()
    run = train(1, callbacks=(watch,), trainer={"limit_val_batches": 0})
    start = [parameter.detach() for parameter in pair_potential().parameters()]
    assert_equal(list(best_model(run.trainer, run.module).parameters()), recursion(start, watch.trained, 0.9)[-1])


def test_decay_outside_its_range() -> None:
    with pytest.raises(UserError, match="found 1"):
        EMA(1.0)


def test_checkpoint_of_another_model(train: Callable, tmp_path: Path) -> None:
    run = train(1)
    run.module.model.extra = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(UserError, match="another model"):
        model_from_checkpoint(run.module, run.folder / "checkpoints/best.ckpt")


def test_best_is_the_best(train: Callable) -> None:
    run = train(4, climb=True)
    best = torch.load(run.folder / "checkpoints/best.ckpt", weights_only=True)
    last = torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True)
    assert (best["epoch"], last["epoch"]) == (0, 3)


def test_metrics_table(train: Callable) -> None:
    run = train(3, trainer={"check_val_every_n_epoch": 1})
    with (run.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "3"), ("2", "6"), ("3", "9")]
    names = ["loss", "loss_energy", "loss_forces", "loss_stress"]
    names += ["energy_rmse_meV", "energy_mae_meV", "energy_rmse_meV_per_atom", "energy_mae_meV_per_atom"]
    names += ["forces_rmse_meV_A", "forces_mae_meV_A"]
    columns = ["epoch", "step", "seconds", "data_wait", "train/loss", "lr"]
    assert list(rows[0]) == [*columns, *[f"valid/{name}" for name in names]]
    assert all(0 < float(row["data_wait"]) < 1 for row in rows)
    assert all(float(row["lr"]) == 0.02 for row in rows)


def test_table_with_a_new_column(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write_csv(path, [{"epoch": 1, "a": 1.5}, {"epoch": 2, "a": 2.5}], floats="")
    rows = [*read_rows(path, 1), {"epoch": 2, "b": 3}]
    write_csv(path, rows, floats="")
    assert path.read_text().splitlines() == ["epoch,a,b", "1,1.5,", "2,,3"]
    assert read_rows(tmp_path / "absent.csv", 5) == []


class FailingLogger(Logger):
    """Works until it is asked to log."""

    name, version = "failing", 0
    calls = 0

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        type(self).calls += 1
        raise ConnectionError("no network")


def test_a_failing_logger_is_left_out_once(train: Callable, caplog: pytest.LogCaptureFixture) -> None:
    run = train(3, trainer={"logger": SafeLogger(FailingLogger)})
    assert run.trainer.global_step == 9
    assert FailingLogger.calls == 1
    warnings = [record for record in caplog.records if "left out" in record.message]
    assert len(warnings) == 1
    assert "FailingLogger" in warnings[0].message and "no network" in warnings[0].message


def test_a_logger_that_cannot_start(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> Logger:
        raise PermissionError("read only")

    with caplog.at_level(logging.WARNING):
        logger = SafeLogger(refuse)
    logger.log_metrics({"a": 1.0}, 0)
    assert logger.name is None and "read only" in caplog.text
    with pytest.raises(UserError, match="no_such_argument"):
        SafeLogger(lambda: CSVLogger(no_such_argument=1))  # type: ignore[call-arg]


def test_a_working_logger_gets_everything(train: Callable, tmp_path: Path) -> None:
    logger = SafeLogger(lambda: CSVLogger(tmp_path, name="log", version=""))
    train(2, trainer={"logger": logger})
    with (tmp_path / "log" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert "valid/forces_rmse_meV_A" in rows[0]


def test_one_line_per_validation(train: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    train(2)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2
    for text in ("epoch 2/2", "loss ", "valid ", " meV (", "meV/Å", "lr 0.02", "data wait", "elapsed", "left"):
        assert text in lines[1]


def test_texts() -> None:
    assert [duration(seconds) for seconds in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]
    errors = {"valid/energy_rmse_meV": 12345.6, "valid/energy_rmse_meV_per_atom": 0.1234}
    assert errors_line(errors) == "RMSE E 12346 meV (0.123 meV/atom)"
    errors["valid/forces_rmse_meV_A"] = 45.67
    assert errors_line(errors, short=True) == "E 12346 meV F 45.7 meV/Å"
    assert errors_line({"valid/loss": 1.0}) == ""
