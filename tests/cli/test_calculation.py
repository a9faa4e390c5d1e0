"""What `md` and `relax` do with compile=auto, and what is left when compiling fails."""

from types import SimpleNamespace

import ase.io
import pytest
from omegaconf import OmegaConf
from small_models import build, molecule

from mace_gaunt.cli import calculation
from mace_gaunt.errors import UserError
from mace_gaunt.model.checkpoint import save_model
from mace_gaunt.model.compiled import CompileError
from mace_gaunt.model.gradients import edge_gradient
from mace_gaunt.simulation import potential
from mace_gaunt.simulation.calculator import MaceGauntCalculator

SMALL = {"num_channels": 2, "max_L": 0, "max_ell": 1, "correlation": 1, "radial_MLP": [2], "num_interactions": 1}


@pytest.fixture
def committee():
    model = build("gaunt", **SMALL)
    return MaceGauntCalculator([model, model], device="cpu")


@pytest.fixture
def second_fails(monkeypatch):
    """The first model of a committee compiles, the second one does not; counts what was tried."""
    tried = []

    def compile_inference(model, batch):
        tried.append(model)
        if len(tried) > 1:
            raise CompileError("no space left")
        return lambda *inputs: edge_gradient(model, *inputs)

    monkeypatch.setattr(potential, "compile_inference", compile_inference)
    monkeypatch.setattr(calculation, "LONG_RUN", -1.0)
    return tried


def checkpoint(compiled):
    return SimpleNamespace(info={"numerics": {"compiled": compiled}})


@pytest.mark.parametrize("earlier", [None, checkpoint(True)])
def test_auto_computes_eagerly_where_compiling_fails(earlier, committee, second_fails, capsys):
    config = OmegaConf.create({"compile": "auto"})
    calculation.compile_if_it_pays(config, committee, molecule(), 1000, earlier)
    assert len(second_fails) == 2 and not committee.is_compiled
    assert capsys.readouterr().err == "warning: compile=auto: not compiled: no space left\n"
    assert all(one._gradient is None for one in committee._ensemble.potentials)
    committee.get_property("forces", molecule())
    assert len(second_fails) == 2


def test_on_ends_where_compiling_fails(committee, second_fails):
    with pytest.raises(UserError, match="cannot be compiled: no space left"):
        calculation.compile_if_it_pays(OmegaConf.create({"compile": "on"}), committee, molecule(), 1)


def test_auto_goes_on_as_it_began(committee, second_fails):
    calculation.compile_if_it_pays(OmegaConf.create({"compile": "auto"}), committee, molecule(), 1, checkpoint(False))
    assert second_fails == [] and not committee.is_compiled


def test_relax_is_judged_by_its_largest_structure(tmp_path, command, second_fails):
    """A single atom is never compiled: had it been the one, compiling would fail amid the relaxations."""
    folder = save_model(build("gaunt", **SMALL), tmp_path / "model")
    ase.io.write(tmp_path / "two.xyz", [molecule()[:1], molecule()])
    second_fails.append(None)  # so the first one fails, too
    words = ["relax", f"model={folder}", "structure=two.xyz", "index=:", "fmax=100", "device=cpu"]
    status, _, err = command(*words, "kernel=grid", "compile=auto", "out=relaxed")
    assert status == 0 and err.startswith("warning: compile=auto: not compiled: no space left\n"), err
    assert len(ase.io.read(tmp_path / "relaxed" / "relaxed.extxyz", ":")) == 2
