"""`benchmark md mace=FOLDER`: sizes come from the model, and both sides get it."""

import ase
import ase.io
import pytest
from mace_cases import ROOT

from mace_gaunt.benchmark.peer.mace_model import convert, take_sizes
from mace_gaunt.benchmark.peer.own import build_model
from mace_gaunt.benchmark.peer.problem import box_problem
from mace_gaunt.benchmark.peer.settings import md_settings
from mace_gaunt.errors import UserError

CASE = str(ROOT / "order_4")


def request(**given):
    return take_sizes(md_settings({"out": "here"} | given), given)


def test_sizes_are_those_of_the_model(tmp_path):
    settings = request(mace=CASE, dtype="float64")
    assert (settings.num_channels, settings.max_L, settings.max_ell, settings.correlation) == ((2,), (1,), (1,), 4)
    assert (settings.r_max, settings.num_interactions, settings.families) == (3.5, 2, ("clebsch_gordan",))
    ase.io.write(tmp_path / "atoms.xyz", ase.Atoms("CO", [[0, 0, 0], [0, 0, 1.2]]))
    settings = request(mace=CASE, dtype="float64", structure=str(tmp_path / "atoms.xyz"))
    problem = box_problem(settings, settings.sizes[0], tmp_path)
    assert problem["mace"] == CASE and problem["atomic_numbers"] == [1, 6, 8]
    model = build_model(problem)
    expected = convert(CASE).state_dict()
    assert all((value == expected[name]).all() for name, value in model.state_dict().items())


def test_without_a_model_nothing_changes():
    settings = request(num_channels=(8,))
    assert settings == md_settings({"out": "here", "num_channels": (8,)}) and settings.mace is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mace": CASE, "num_channels": (8,)}, "num_channels is that of the MACE model"),
        ({"mace": CASE, "families": ("gaunt",)}, "families is that of the MACE model"),
        ({"mace": "nowhere"}, "No file or folder 'nowhere'"),
        ({"mace": str(ROOT / "soft_gaussian_gap")}, "several heads"),
    ],
)
def test_refused(given, message):
    with pytest.raises(UserError, match=message):
        request(**given)


def test_a_structure_of_other_elements_is_refused(tmp_path):
    ase.io.write(tmp_path / "atoms.xyz", ase.Atoms("CCl", [[0, 0, 0], [0, 0, 1.2]]))
    settings = request(mace=CASE, structure=str(tmp_path / "atoms.xyz"))
    with pytest.raises(UserError, match=r"elements \[17\]"):
        box_problem(settings, settings.sizes[0], tmp_path)
