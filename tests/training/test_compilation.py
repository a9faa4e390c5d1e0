"""When a training is compiled, the comparison before it is used, and that a compiled training is the same training."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ase.io
import lightning
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from compiled_cases import DEVICES, batch_of, tiny
from compiled_process import work
from lightning.pytorch.utilities.types import TRAIN_DATALOADERS
from small_models import crystal, graph, molecule
from torch._dynamo.testing import CompileCounterWithBackend
from torch_geometric.loader import DataLoader

from mace_gaunt.errors import UserError
from mace_gaunt.model import compiled
from mace_gaunt.model.compiled import CompiledGradient
from mace_gaunt.model.gradients import edge_gradient, predict
from mace_gaunt.training import compilation
from mace_gaunt.training import module as training_module
from mace_gaunt.training.callbacks import EMA
from mace_gaunt.training.loss import WeightedLoss
from mace_gaunt.training.module import PotentialModule
from mace_gaunt.training.stage_two import StageTwo


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Counts what is compiled; torch traces and differentiates, but no machine code is made."""
    counter, compile = CompileCounterWithBackend("aot_eager"), torch.compile
    monkeypatch.setattr(torch, "compile", lambda graph, **options: compile(graph, backend=counter, **options))
    yield counter
    torch._dynamo.reset()


@pytest.fixture
def traceable(monkeypatch: pytest.MonkeyPatch, pair_potential: Callable) -> None:
    """What tracing asks of a model beside calling it: the PairPotential of `train` is traced in no time."""
    for name, value in {"device": torch.device("cpu"), "atomic_numbers": [1, 6]}.items():
        monkeypatch.setattr(pair_potential, name, value, raising=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"stage_two": StageTwo(start=0.5, energy_weight=500.0, forces_weight=10.0)},
        {"trainer": {"accumulate_grad_batches": 2, "gradient_clip_val": 0.01}},
        {"max_edges_per_pass": 20, "loss": WeightedLoss(kind="huber")},
    ],
    ids=["stage two", "accumulated and clipped", "in parts"],
)
def test_a_compiled_training_is_the_same_training(
    train: Callable, traceable: None, counted: Any, settings: dict[str, Any]
) -> None:
    """Weights, averaged weights and metrics after some epochs, by one compilation for training and validation."""
    runs = [train(4, folder=choice, compile=choice, **settings) for choice in ("off", "on")]
    assert counted.frame_count == 1
    eager, compiled = (torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True) for run in runs)
    for name, expected in eager["state_dict"].items():
        torch.testing.assert_close(compiled["state_dict"][name], expected, rtol=1e-9, atol=1e-12)
        assert not torch.equal(eager["training_weights"][name], expected)
        torch.testing.assert_close(
            compiled["training_weights"][name], eager["training_weights"][name], rtol=1e-9, atol=1e-12
        )
    rows = [(run.folder / "metrics.csv").read_text().splitlines() for run in runs]
    columns = [name for name in rows[0][0].split(",") if name.startswith(("train/", "valid/"))]
    places = [rows[0][0].split(",").index(name) for name in columns]
    values = [[float(run[-1].split(",")[place]) for place in places] for run in rows]
    assert len(columns) > 4 and values[1] == pytest.approx(values[0], rel=1e-8)


def test_a_batch_that_proves_nothing_is_passed_over(monkeypatch: pytest.MonkeyPatch, make_frames: Callable) -> None:
    """Lone atoms are computed eagerly whatever is chosen: comparing them would let any compiled gradient pass."""
    chosen: list[int] = []

    def choose(choice: Any, model: Any, loss: Any, batch: Any, steps_left: int) -> None:
        chosen.append(batch.node_types.shape[0])

    monkeypatch.setattr(training_module, "choose_gradient", choose)
    model = tiny("gaunt", max_ell=1)
    module = PotentialModule(model, WeightedLoss(), torch.optim.Adam, compile="on")
    trainer = {"num_training_batches": 1, "accumulate_grad_batches": 1, "max_steps": 9, "max_epochs": 9}
    module._trainer = SimpleNamespace(**trainer, global_step=0)  # type: ignore[assignment]
    for atoms in (molecule()[:1], molecule(), molecule()[:5]):
        module.training_step(batch_of(model, atoms), 0)
    assert chosen == [9]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_resumed_training_is_compiled_if_it_was(
    train: Callable, traceable: None, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    """Of `auto`, which might choose otherwise for the fewer steps that are left; a word of the user's stands."""
    given: list[str] = []

    def choose(choice: str, model: Any, *arguments: Any) -> Any:
        given.append(choice)
        return functools.partial(edge_gradient, model) if compiled else None

    monkeypatch.setattr(training_module, "choose_gradient", choose)
    checkpoint = train(2, compile="auto").folder / "checkpoints/last.ckpt"
    for number, asked in enumerate(("auto", "on", "off")):
        train(3, folder=str(number), compile=asked, ckpt_path=checkpoint)
    assert given == ["auto", "on" if compiled else "off", "on", "off"]


@pytest.fixture
def problem() -> tuple[Any, ...]:
    """A model, its loss and a labelled batch."""
    model = tiny("gaunt", max_ell=1)
    return model, WeightedLoss(), labelled(model, [molecule()])


def labelled(model: Any, structures: list[Any]) -> Any:
    """A batch with the labels of a model with other weights."""
    return next(iter(DataLoader(labelled_frames(model, structures), len(structures))))


def labelled_frames(model: Any, structures: list[Any]) -> list[Any]:
    """Frames with the energies, forces and stress of a model with other weights."""
    teacher = tiny("gaunt", seed=1, max_ell=1)
    frames = [graph(atoms, model) for atoms in structures]
    for frame in frames:
        values = predict(teacher, frame, stress=True)
        frame.energy, frame.forces, frame.stress = values["energy"], values["forces"], values["stress"]
    return frames


@pytest.mark.parametrize(
    ("steps", "seconds", "said"),
    [(299, 9.0, "299 steps are planned"), (1000, 0.2, "take about 200 s"), (1000, 0.4, None)],
)
def test_auto_compiles_what_takes_long(
    problem: tuple[Any, ...],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    steps: int,
    seconds: float,
    said: str | None,
) -> None:
    model, loss, batch = problem
    monkeypatch.setattr(compilation, "timed", lambda run, device: seconds)
    monkeypatch.setattr(compilation, "missing_compiler", lambda: False)
    monkeypatch.setattr(compilation, "CompiledGradient", lambda model: functools.partial(edge_gradient, model))
    with caplog.at_level(logging.INFO):
        gradient = compilation.choose_gradient("auto", model, loss, batch, steps)
    assert (gradient is None) == (said is not None)
    assert (said or "compiled and eager agree") in caplog.text


def test_a_failure_ends_on_and_is_a_warning_of_auto(
    problem: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("CppCompileError: C++ compile error\n\nCommand:\ng++ a\n\nOutput:\nno space left")

    monkeypatch.setattr(compilation, "timed", lambda run, device: 1.0)
    monkeypatch.setattr(compiled, "trace_gradient", lambda model, training: None)
    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(UserError, match=r"compiling failed: RuntimeError: .*: no space left\. compile=off"):
        compilation.choose_gradient("on", *problem, 1000)
    assert compilation.choose_gradient("auto", *problem, 1000) is None
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "compile=auto: eager, since compiling failed" in warning.getMessage()
    assert "no space left" in warning.getMessage()


def test_on_needs_a_compiler(problem: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler: install no-such-compiler, or set CXX"):
        compilation.choose_gradient("on", *problem, 1000)
    assert compilation.choose_gradient("auto", *problem, 1000) is None


@pytest.mark.parametrize("choice", ["on", "auto"])
def test_a_disagreement_stops_with_the_figures(
    problem: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch, choice: Any
) -> None:
    def wrong(model: Any) -> Any:
        def gradient(*arguments: Any) -> Any:
            energy, forces = edge_gradient(model, *arguments)
            return energy, forces.detach()  # as a detach left in the trace: the loss is exact, its gradients are not

        return gradient

    monkeypatch.setattr(compilation, "CompiledGradient", wrong)
    monkeypatch.setattr(compilation, "timed", lambda run, device: 1.0)
    with pytest.raises(UserError, match=r"differs from the eager one on the first batch \(relative: \S+ \d\.\de"):
        compilation.choose_gradient(choice, *problem, 1000)


def test_rounding_errors_are_no_disagreement(problem: tuple[Any, ...]) -> None:
    """The forces of a perfect crystal are rounding errors, and those of a compiled model are others."""
    model, loss, _ = problem
    batch = labelled(model, [bulk("C", cubic=True)])
    generator = torch.Generator().manual_seed(0)

    def rounded(*arguments: Any) -> Any:
        energy, gradient = edge_gradient(model, *arguments)
        return energy, gradient * (1 + 1e-14 * torch.randn(gradient.shape, generator=generator, dtype=torch.float64))

    eager, other = (predict(model, batch, gradient=one)["forces"] for one in (None, rounded))
    assert (eager - other).abs().max() > 0.1 * eager.abs().max()
    errors = compilation.compare(model, loss, batch, rounded)
    compilation.check(errors, model.dtype)
    assert 0 < errors["forces"] < 1e-10


class Frames(lightning.LightningDataModule):
    """Molecules and crystals in batches of three; the last batch holds one."""

    def __init__(self, frames: list[Any]) -> None:
        super().__init__()
        self.frames = frames

    def train_dataloader(self) -> TRAIN_DATALOADERS:
        return DataLoader(self.frames, 3)

    def val_dataloader(self) -> TRAIN_DATALOADERS:
        return DataLoader(self.frames[:2], 2)


def fit(frames: list[Any], choice: Any, folder: Any, device: str) -> dict[str, torch.Tensor]:
    """The weights of a training on energies, forces and stress in two stages."""
    module = PotentialModule(
        tiny("clebsch_gordan", zbl=True),
        WeightedLoss(1.0, 10.0, stress_weight=100.0),
        functools.partial(torch.optim.Adam, lr=0.01),
        stage_two=StageTwo(start=0.5, energy_weight=100.0),
        compile=choice,
    )
    trainer = lightning.Trainer(
        default_root_dir=folder,
        max_epochs=4,
        accelerator=device,
        inference_mode=False,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[EMA(0.9)],
    )
    trainer.fit(module, datamodule=Frames(frames))
    return module.model.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_a_compiled_training_of_the_real_model(tmp_path: Any, device: str) -> None:
    structures = [crystal(0), molecule(0), crystal(1), molecule(1), crystal(2), crystal(3), molecule(2)]
    frames = labelled_frames(tiny("gaunt"), structures)
    eager, compiled = (fit(frames, choice, tmp_path, device) for choice in ("off", "on"))
    start = tiny("clebsch_gordan", zbl=True).state_dict()
    for name, expected in eager.items():
        torch.testing.assert_close(compiled[name], expected, rtol=1e-9, atol=1e-11)
        assert not torch.equal(expected.cpu(), start[name])
    torch._dynamo.reset()


def structures(count: int, seed: int = 0) -> list[Any]:
    """Molecules of several sizes with energies and, but for every third, forces."""
    random, frames = np.random.default_rng(seed), []
    for i in range(count):
        atoms = molecule(seed + i)[: 4 + i % 5]
        forces = {"forces": random.normal(size=(len(atoms), 3))} if i % 3 else {}
        atoms.calc = SinglePointCalculator(atoms, energy=-1000.0 * len(atoms) + random.normal(), **forces)
        frames.append(atoms)
    return frames


@pytest.mark.slow
def test_two_compiled_processes_equal_one_with_the_union_of_their_batches(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    ase.io.write(tmp_path / "train.xyz", structures(9))
    ase.io.write(tmp_path / "valid.xyz", structures(1, seed=50))
    for world, batch_size in ((1, 4), (2, 2)):
        torch.multiprocessing.spawn(work, (world, tmp_path, batch_size, free_port()), nprocs=world)
    alone = torch.load(tmp_path / "of_1_rank_0.pt", weights_only=True)
    for rank in (0, 1):
        result = torch.load(tmp_path / f"of_2_rank_{rank}.pt", weights_only=True)
        assert (tmp_path / f"compiled_2_{rank}").read_text() == "1"
        for name, expected in alone["weights"].items():
            torch.testing.assert_close(result["weights"][name], expected, rtol=1e-9, atol=1e-11)
        assert result["metrics"] == pytest.approx(alone["metrics"], rel=1e-9)


@pytest.mark.slow
def test_a_large_model_is_not_cut_into_the_buckets_of_several_processes(
    counted: Any, free_port: Callable[[], int]
) -> None:
    """DistributedDataParallel's first bucket holds 1 MiB; torch compiles a graph for every bucket unless it is told."""

    class Step(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model, self.gradient = model, CompiledGradient(model)

        def forward(self, batch: Any) -> torch.Tensor:
            return predict(self.model, batch, training=True, gradient=self.gradient)["forces"].square().sum()

    address = f"tcp://127.0.0.1:{free_port()}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=0, world_size=1)
    try:
        model = tiny("gaunt", num_channels=128, radial_MLP=[64], max_ell=1)
        batch = batch_of(model, molecule())
        expected = torch.autograd.grad(
            predict(model, batch, training=True)["forces"].square().sum(), model.parameters()
        )
        torch.nn.parallel.DistributedDataParallel(Step(model), bucket_cap_mb=1.0)(batch).backward()
    finally:
        torch.distributed.destroy_process_group()
    assert counted.frame_count == 1
    assert sum(value.numel() * value.element_size() for value in expected) > 1.5 * 2**20
    for parameter, value in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, value, rtol=1e-9, atol=1e-9)
