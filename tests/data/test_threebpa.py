"""3BPA: splits by name, the root rule, slices of the dihedral scan."""

import json
from pathlib import Path

import pytest
from waters import make_atom, make_water

from mace_gaunt.data.bundled import bundled_path
from mace_gaunt.data.threebpa import ThreeBPADataModule, find_root, list_splits
from mace_gaunt.errors import UserError


@pytest.fixture
def root(write, tmp_path):
    """A folder in the layout of 3BPA, with waters."""
    waters = [make_water(i) for i in range(10)]
    for name in ("train_300K", "train_mixedT", "test_300K", "test_1200K"):
        write(f"{name}.xyz", *waters)
    angles = [119.6, 150.0, 150.4, -180.0, 90.0]
    write("test_dih.xyz", *(make_water(i, dihedrals=[10.0, b, 0.0]) for i, b in enumerate(angles)))
    write("iso_atoms.xyz", make_atom("H"), make_atom("O"))
    return tmp_path


def sizes(module):
    return {name: len(frames) for name, frames in module.test_frames.items()}


def test_every_test_split_and_the_slices(root):
    module = ThreeBPADataModule(3.0, root=root)
    module.setup()
    found = sizes(module)
    assert list(found) == [
        "test_300K",
        "test_1200K",
        "test_dih",
        "test_dih_beta120",
        "test_dih_beta150",
        "test_dih_beta180",
    ]
    assert list(found.values()) == [10, 10, 5, 1, 2, 1]
    assert module.test_frames["test_dih_beta150"][0] is module.test_frames["test_dih"][1]
    assert (len(module.train_frames), len(module.valid_frames)) == (9, 1)
    assert module.statistics.E0s == [-13.5, -2041.25]


def test_named_splits_slices_and_files(root, write):
    other = write("other.xyz", *(make_water(i) for i in range(3)))
    module = ThreeBPADataModule(
        3.0,
        root=root,
        train="train_mixedT[2:]",
        valid="train_mixedT[:2]",
        test={"hot": "train_mixedT[7:]", "mine": other, "b": "test_dih_beta150"},
    )
    module.setup()
    assert (len(module.train_frames), len(module.valid_frames)) == (8, 2)
    assert sizes(module) == {"hot": 3, "mine": 3, "b": 2}
    with pytest.raises(UserError, match="beta = 180"):
        ThreeBPADataModule(3.0, root=write_scan(root), test="test_dih_beta180").setup("test")


def write_scan(root: Path) -> Path:
    """The folder with a scan that lacks one slice."""
    lines = (root / "test_dih.xyz").read_text().replace("-180.0", "90.0")
    (root / "test_dih.xyz").write_text(lines)
    return root


def test_files_of_the_user_go_before_splits(root, write):
    other = write("other.xyz", *(make_water(i) for i in range(5)))
    module = ThreeBPADataModule(3.0, root=root, train_file=other, valid_file=f"{other}[:1]", test_file=f"{other}[1:]")
    module.setup()
    assert (len(module.train_frames), len(module.valid_frames), sizes(module)) == (5, 1, {"other[1:]": 4})


def test_absent_split_names_the_nearest_and_where_to_get_it(root):
    with pytest.raises(UserError, match=r"no split 'train_300k' in .* Did you mean 'train_300K'\? .*BOTNet-datasets"):
        ThreeBPADataModule(3.0, root=root, train="train_300k").setup("fit")
    with pytest.raises(UserError, match=r"there is no split at all\). `mace-gaunt data download"):
        ThreeBPADataModule(3.0, root=root / "nowhere").setup("fit")
    with pytest.raises(UserError, match="no split 'test_600K'"):
        ThreeBPADataModule(3.0, root=root, test="test_600K").setup("fit")


def test_root_rule(tmp_path, monkeypatch):
    monkeypatch.delenv("MACE_GAUNT_DATA", raising=False)
    assert find_root(None) == Path("data/3bpa")
    monkeypatch.setenv("MACE_GAUNT_DATA", str(tmp_path))
    assert find_root(None) == tmp_path / "3bpa"
    assert find_root("elsewhere") == Path("elsewhere")
    assert find_root("bundled") == bundled_path("3bpa_xtb")


def test_plain_files_go_before_compressed_ones(root):
    (root / "test_300K.xyz.gz").write_bytes(b"")
    assert list_splits(root)["test_300K"].name == "test_300K.xyz"
    assert list_splits(root / "nowhere") == {}


def test_other_policies_need_no_isolated_atoms(root):
    (root / "iso_atoms.xyz").unlink()
    module = ThreeBPADataModule(3.0, root=root, E0s={"H": -1.0, "O": -2.0})
    assert module.statistics.E0s == [-1.0, -2.0]


def test_real_3bpa(shared_data):
    module = ThreeBPADataModule(
        5.0, root=shared_data / "3bpa", test=["test_300K_dev[:20]", "train_mixedT[334:]"], valid_size=50
    )
    module.setup()
    assert (len(module.train_frames), len(module.valid_frames)) == (450, 50)
    assert sizes(module) == {"test_300K_dev[:20]": 20, "train_mixedT[334:]": 166}
    assert module.statistics.atomic_numbers == [1, 6, 7, 8]
    assert module.statistics.E0s[1] == -1029.4889999855063
    assert module.statistics.scale == pytest.approx(0.95, abs=0.05)
    assert module.train_frames[0].energy.item() < -17600
    json.dumps(module.file_hashes)


def test_real_3bpa_without_naming_tests(shared_data):
    assert set(ThreeBPADataModule(5.0, root=shared_data / "3bpa").test_files()) == {"test_300K_dev", "test_600K_dev"}
