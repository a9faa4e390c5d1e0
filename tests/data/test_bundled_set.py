"""The bundled set data/3bpa_xtb: counts, units and sums as its README states them."""

import hashlib
import re

import numpy as np
import pytest
from ase.io import read

COUNTS = {
    "train_300K": 500,
    "train_mixedT": 500,
    "test_300K": 250,
    "test_600K": 250,
    "test_1200K": 250,
    "test_dih": 678,
}


def split(folder, name):
    return read(folder / f"{name}.xyz.gz", ":")


@pytest.fixture(scope="module")
def splits(bundled_data):
    return {name: split(bundled_data, name) for name in COUNTS}


def test_sums_and_counts_of_the_readme(bundled_data, splits):
    rows = re.findall(
        r"^\| `(\S+)` \| (\d+) \| (\d+) \| `(\w{64})` \|$", (bundled_data / "README.md").read_text(), re.M
    )
    assert {name for name, *_ in rows} == {f"{name}.xyz.gz" for name in COUNTS} | {"iso_atoms.xyz"}
    for name, frames, size, sha256 in rows:
        content = (bundled_data / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (int(size), sha256), name
        assert int(frames) == (4 if name == "iso_atoms.xyz" else len(splits[name.removesuffix(".xyz.gz")]))
    assert sum(int(size) for *_, size, _ in rows) < 2_000_000


@pytest.mark.parametrize("name", COUNTS)
def test_frames(splits, name):
    frames = splits[name]
    assert len(frames) == COUNTS[name]
    for atoms in frames:
        assert atoms.get_chemical_formula() == "C12H12N2O"
        assert not atoms.pbc.any()
        # 27 roundings to five decimals
        assert np.abs(atoms.get_forces().sum(axis=0)).max() < 27 * 0.5e-5
        assert [atoms.get_dihedral(8, 7, 6, 1), atoms.get_dihedral(6, 7, 8, 9)] == pytest.approx(
            atoms.info["dihedrals"][:2], abs=0.02
        )


def test_binding_energy_and_forces_grow_with_temperature(bundled_data, splits):
    free = {a.get_chemical_symbols()[0]: a.get_potential_energy() for a in read(bundled_data / "iso_atoms.xyz", ":")}
    assert set(free) == {"H", "C", "N", "O"}
    energies, forces = [], []
    for name in ("test_300K", "test_600K", "test_1200K"):
        frames = splits[name]
        bound = [a.get_potential_energy() - sum(free[s] for s in a.symbols) for a in frames]
        energies.append(np.mean(bound))
        forces.append(np.sqrt(np.mean([a.get_forces() ** 2 for a in frames])))
    assert -220 < energies[0] < energies[1] < energies[2] < -100
    # Equipartition: another 300 K of classical vibration is 78 x 300 k_B / 2 = 1.0 eV of potential energy.
    assert energies[1] - energies[0] == pytest.approx(1.0, abs=0.3)
    assert 0.7 < forces[0] < forces[1] < forces[2] < 3.0


def test_mixed_temperatures_are_ordered(splits):
    parts = (slice(0, 167), slice(167, 334), slice(334, 500))
    frames = splits["train_mixedT"]
    means = [np.mean([atoms.get_potential_energy() for atoms in frames[part]]) for part in parts]
    assert means[0] < means[1] < means[2]


def test_no_frame_is_in_two_splits(splits):
    seen = [atoms.get_potential_energy() for frames in splits.values() for atoms in frames]
    assert len(set(seen)) == len(seen)


def test_labels_are_reproduced_by_tblite(splits):
    calculators = pytest.importorskip("tblite.ase", reason="needs the extra xtb")
    atoms = splits["test_1200K"][7].copy()
    atoms.calc = calculators.TBLite(method="GFN2-xTB", accuracy=0.01, verbosity=0)
    assert atoms.get_potential_energy() == pytest.approx(splits["test_1200K"][7].get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(atoms.get_forces(), splits["test_1200K"][7].get_forces(), atol=1e-4)
