"""The real model on real frames: MACE, AtomsDataModule and the bundled data set."""

import csv
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.collate import collate
from mace_gaunt.data.datamodule import AtomsDataModule
from mace_gaunt.model.checkpoint import load_model, save_model
from mace_gaunt.model.gradients import predict
from mace_gaunt.model.mace import MACE
from mace_gaunt.tensor_products.clebsch_gordan import ClebschGordanEdgeProduct, ClebschGordanNodeProduct
from mace_gaunt.tensor_products.gaunt import GauntEdgeProduct, GauntNodeProduct
from mace_gaunt.training import schedulers
from mace_gaunt.training.callbacks import EMA, BestCheckpoint, LastCheckpoint, MetricsCSV
from mace_gaunt.training.export import best_model
from mace_gaunt.training.groups import parameter_groups
from mace_gaunt.training.loss import WeightedLoss
from mace_gaunt.training.metrics import ErrorMetrics
from mace_gaunt.training.module import PotentialModule, interaction_reference
from mace_gaunt.training.progress import ProgressReport
from mace_gaunt.training.soap import SOAP
from mace_gaunt.training.stage_two import StageTwo

FAMILIES = {
    "gaunt": (GauntEdgeProduct, GauntNodeProduct),
    "clebsch_gordan": (ClebschGordanEdgeProduct, ClebschGordanNodeProduct),
}
COSINE = functools.partial(schedulers.cosine, warmup_epochs=0.5)
ADAM = functools.partial(torch.optim.Adam, lr=0.01, weight_decay=5e-7, amsgrad=True)


def make_model(statistics: Any, family: str = "gaunt", dtype: torch.dtype = torch.float64) -> MACE:
    edge_product, node_product = FAMILIES[family]
    torch.manual_seed(0)
    return MACE(
        r_max=4.0,
        max_ell=2,
        num_channels=8,
        correlation=2,
        radial_MLP=(16,),
        edge_product=edge_product,
        node_product=node_product,
        **vars(statistics),
    ).to(dtype)


@pytest.fixture
def data(bundled_data: Path) -> Callable[[], AtomsDataModule]:
    if not bundled_data.is_dir():
        pytest.skip(f"needs the bundled data set in {bundled_data}")
    isolated = bundled_data / "iso_atoms.xyz"
    file = f"{bundled_data / 'train_300K.xyz.gz'}[:30]"
    return lambda: AtomsDataModule(4.0, train_file=file, isolated_atoms_file=isolated, valid_size=6, batch_size=4)


@pytest.fixture
def fit(tmp_path: Path, data: Callable[[], AtomsDataModule]) -> Callable[..., SimpleNamespace]:
    """fit(epochs, folder, stop_after, family, dtype, resume, compile, optimizer)."""

    def run(
        epochs: int,
        folder: str = "run",
        stop_after: int | None = None,
        family: str = "gaunt",
        dtype: torch.dtype = torch.float64,
        resume: bool = False,
        compile: Any = "off",
        optimizer: Any = ADAM,
    ) -> SimpleNamespace:
        datamodule = data()
        datamodule.setup("fit")
        module = PotentialModule(
            make_model(datamodule.statistics, family, dtype),
            WeightedLoss(40.0, 1000.0),
            optimizer,
            scheduler=COSINE,
            stage_two=StageTwo(0.75, 4000.0, 1000.0, lr=None),
            compile=compile,
        )
        callbacks = [EMA(0.9), MetricsCSV(), ProgressReport(), BestCheckpoint(), LastCheckpoint()]
        if stop_after is not None:
            callbacks.append(Stop(stop_after))
        trainer = lightning.Trainer(
            default_root_dir=tmp_path / folder,
            max_epochs=epochs,
            callbacks=callbacks,
            logger=False,
            accelerator="cpu",
            inference_mode=False,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            gradient_clip_val=10.0,
            use_distributed_sampler=False,
        )
        last = tmp_path / folder / "checkpoints/last.ckpt" if resume else None
        trainer.fit(module, datamodule=datamodule, ckpt_path=last, weights_only=True)
        return SimpleNamespace(trainer=trainer, module=module, data=datamodule, folder=tmp_path / folder)

    return run


class Stop(lightning.Callback):
    """Ends a run early."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def rows(run: SimpleNamespace) -> list[dict[str, str]]:
    with (run.folder / "metrics.csv").open() as file:
        return [
            {name: row[name] for name in row if name not in ("seconds", "data_wait")} for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("family", FAMILIES)
def test_errors_fall(fit: Callable[..., SimpleNamespace], family: str) -> None:
    table = rows(fit(8, family=family, dtype=torch.float32))
    first, final = (float(row["valid/forces_rmse_meV_A"]) for row in (table[0], table[-1]))
    assert final < 0.9 * first


@pytest.mark.parametrize("optimizer", [ADAM, SOAP], ids=["adam", "soap"])
def test_resumed_equals_uninterrupted(fit: Callable[..., SimpleNamespace], optimizer: Any) -> None:
    whole = fit(4, "whole", optimizer=optimizer)
    fit(4, "parts", stop_after=2, optimizer=optimizer)
    torch.rand(10)
    parts = fit(4, "parts", resume=True, optimizer=optimizer)
    assert rows(whole) == rows(parts)
    for one, other in zip(whole.module.parameters(), parts.module.parameters(), strict=True):
        assert torch.equal(one, other)
    exported = (best_model(run.trainer, run.module) for run in (whole, parts))
    for one, other in zip(*(model.parameters() for model in exported), strict=True):
        assert torch.equal(one, other)


def test_saved_model_has_the_errors_of_the_table(fit: Callable[..., SimpleNamespace], tmp_path: Path) -> None:
    run = fit(2)
    save_model(best_model(run.trainer, run.module), tmp_path / "model")
    model = load_model(tmp_path / "model")
    errors = ErrorMetrics()
    for frame in run.data.valid_frames:
        errors.update(predict(model, frame), frame)
    found = {f"valid/{name}": value.item() for name, value in errors.compute().items()}
    last = min(rows(run)[-1:], key=lambda row: float(row["valid/loss"]))
    assert {name: float(last[name]) for name in found} == pytest.approx(found, rel=1e-9)


def test_energies_are_subtracted_before_the_cast(data: Callable[[], AtomsDataModule]) -> None:
    datamodule = data()
    datamodule.setup("fit")
    model = make_model(datamodule.statistics, dtype=torch.float32)
    frame = datamodule.train_frames[0].clone()
    shifted = frame.clone()
    shifted.energy = frame.energy + 1e-6
    difference = interaction_reference(model, shifted) - interaction_reference(model, frame)
    assert difference.item() == pytest.approx(1e-6, rel=1e-3)


def test_groups_cover_all_parameters_once(data: Callable[[], AtomsDataModule]) -> None:
    datamodule = data()
    datamodule.setup("fit")
    model = make_model(datamodule.statistics)
    groups = [[id(parameter) for parameter in group["params"]] for group in parameter_groups(model, 10.0)]
    assert sorted(itertools.chain(*groups)) == sorted(id(parameter) for parameter in model.parameters())
    assert all(groups)
    products = [product.node_product for product in model.products]
    assert groups[2] == [id(product.weight) for product in products]


def test_stress_of_crystals_beside_molecules() -> None:
    """A molecule has no stress; training on the stress of a crystal in the same batch must not notice."""
    atoms = [Atoms("OH2", positions=[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]), bulk("MgO", "rocksalt", a=4.2)]
    frames = [AtomicData.from_atoms(one, 4.0, [1, 8, 12]) for one in atoms]
    frames[1].stress = torch.full((1, 3, 3), 0.01, dtype=torch.float64)
    statistics = SimpleNamespace(
        atomic_numbers=[1, 8, 12], E0s=[0.0, 0.0, 0.0], avg_num_neighbors=8.0, scale=1.0, shift=0.0
    )
    model, loss = make_model(statistics), WeightedLoss(stress_weight=1.0)
    batch = collate(frames)
    value, parts = loss(predict(model, batch, stress=True, training=True), batch, interaction_reference(model, batch))
    value.backward()
    assert parts["stress"].item() > 0
    assert (parts["energy"].item(), parts["forces"].item()) == (0.0, 0.0)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.slow
def test_compiled_training_equals_eager(fit: Callable[..., SimpleNamespace]) -> None:
    eager, compiled = fit(2, "eager"), fit(2, "compiled", compile="on")
    assert compiled.module._gradient is not None
    for one, other in zip(rows(eager), rows(compiled), strict=True):
        assert {name: float(value) for name, value in one.items()} == pytest.approx(
            {name: float(value) for name, value in other.items()}, rel=1e-7
        )
