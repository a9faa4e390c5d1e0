"""AcAc and rMD17 by the names of their splits."""

import pytest
from waters import make_atom, make_water

from mace_gaunt.data.molecules import MoleculeDataModule
from mace_gaunt.errors import UserError


@pytest.fixture
def root(write, tmp_path):
    """A folder in the layout of AcAc, with waters."""
    waters = [make_water(i) for i in range(6)]
    for name in ("train_300K", "test_MD_300K", "test_MD_600K_dev"):
        write(f"{name}.xyz", *waters)
    write("isolated_atoms.xyz", make_atom("H"), make_atom("O"))
    return tmp_path


def test_a_half_stands_for_a_test_set_and_is_called_so(root):
    module = MoleculeDataModule(
        3.0, root=root, train="train_300K", test=["test_MD_300K", "test_MD_600K"], isolated_atoms_file="isolated_atoms"
    )
    assert list(module.test_files()) == ["test_MD_300K", "test_MD_600K_dev"]
    assert {name: len(frames) for name, frames in module.test_frames.items()} == dict.fromkeys(module.test_files(), 6)
    assert list(MoleculeDataModule(3.0, root=root).test_files()) == ["test_MD_300K", "test_MD_600K_dev"]


def test_a_split_that_is_not_there(root, tmp_path):
    with pytest.raises(UserError, match=r"no split 'test_dihedrl'.*data/README.md"):
        MoleculeDataModule(3.0, root=root, test=["test_dihedrl"]).test_files()
    with pytest.raises(UserError, match="there is no split at all"):
        MoleculeDataModule(3.0, root=tmp_path / "nowhere", test=["test_MD_300K"]).test_files()


def test_the_real_sets(shared_data):
    acac = MoleculeDataModule(
        5.0, root=shared_data / "acac", test=["test_MD_600K", "test_dihedral"], isolated_atoms_file="isolated_atoms",
        valid_size=50, max_train_frames=10,
    )  # fmt: skip
    assert acac.statistics.atomic_numbers == [1, 6, 8] and acac.statistics.E0s[0] == pytest.approx(-13.568422178)
    assert {name: len(frames) for name, frames in acac.test_frames.items()} == {
        "test_MD_600K_dev": 325,
        "test_dihedral": 45,
    }
    E0s = {"H": -13.568422178, "C": -1026.8538996, "O": -2037.7968694}
    aspirin = MoleculeDataModule(
        5.0, root=shared_data / "rmd17", train="aspirin_train", test=["aspirin_test"], E0s=E0s, valid_size=50
    )
    assert (len(aspirin.train_frames), list(aspirin.test_files())) == (450, ["aspirin_test_dev"])
    # Bound by 116 eV.
    assert aspirin.statistics.shift == pytest.approx(-116.1 / 21, abs=0.1)
