"""The bundled set data/3bpa_xtb: counts, units and sums as its README states them."""

import gzip
import hashlib
import io
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


@pytest.fixture(scope="module")
def texts(bundled_data):
    return {name: gzip.decompress((bundled_data / f"{name}.xyz.gz").read_bytes()).decode() for name in COUNTS}


@pytest.fixture(scope="module")
def splits(texts):
    """Every tenth frame; ASE skips the others faster in a text than in a compressed file."""
    return {name: read(io.StringIO(text), "::10", format="extxyz") for name, text in texts.items()}


@pytest.fixture(scope="module")
def energies(texts):
    """The energies of all frames, from their headers."""
    return {name: [float(energy) for energy in re.findall(r" energy=(\S+) ", text)] for name, text in texts.items()}


def test_sums_and_counts_of_the_readme(bundled_data, energies):
    rows = re.findall(
        r"^\| `(\S+)` \| (\d+) \| (\d+) \| `(\w{64})` \|$", (bundled_data / "README.md").read_text(), re.M
    )
    assert {name for name, *_ in rows} == {f"{name}.xyz.gz" for name in COUNTS} | {"iso_atoms.xyz"}
    for name, frames, size, sha256 in rows:
        content = (bundled_data / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (int(size), sha256), name
        assert int(frames) == (4 if name == "iso_atoms.xyz" else len(energies[name.removesuffix(".xyz.gz")]))
    assert sum(int(size) for *_, size, _ in rows) < 2_000_000


@pytest.mark.parametrize("name", COUNTS)
def test_frames(splits, energies, name):
    assert len(energies[name]) == COUNTS[name]
    for atoms in splits[name]:
        assert atoms.get_chemical_formula() == "C12H12N2O"
        assert not atoms.pbc.any()
        # 27 roundings to five decimals
        assert np.abs(atoms.get_forces().sum(axis=0)).max() < 27 * 0.5e-5
        assert [atoms.get_dihedral(8, 7, 6, 1), atoms.get_dihedral(6, 7, 8, 9)] == pytest.approx(
            atoms.info["dihedrals"][:2], abs=0.02
        )


def test_binding_energy_and_forces_grow_with_temperature(bundled_data, splits, energies):
    free = {a.get_chemical_symbols()[0]: a.get_potential_energy() for a in read(bundled_data / "iso_atoms.xyz", ":")}
    assert set(free) == {"H", "C", "N", "O"}
    tests = ("test_300K", "test_600K", "test_1200K")
    unbound = sum(free[symbol] for symbol in splits["test_300K"][0].symbols)
    binding = [np.mean(energies[name]) - unbound for name in tests]
    assert -220 < binding[0] < binding[1] < binding[2] < -100
    # Equipartition: another 300 K of classical vibration is 78 x 300 k_B / 2 = 1.0 eV of potential energy.
    assert binding[1] - binding[0] == pytest.approx(1.0, abs=0.3)
    forces = [np.sqrt(np.mean([atoms.get_forces() ** 2 for atoms in splits[name]])) for name in tests]
    assert 0.7 < forces[0] < forces[1] < forces[2] < 3.0


def test_mixed_temperatures_are_ordered(energies):
    parts = (slice(0, 167), slice(167, 334), slice(334, 500))
    means = [np.mean(energies["train_mixedT"][part]) for part in parts]
    assert means[0] < means[1] < means[2]


def test_no_frame_is_in_two_splits(energies):
    everything = [energy for split in energies.values() for energy in split]
    assert len(set(everything)) == len(everything)


def test_labels_are_reproduced_by_tblite(splits):
    calculators = pytest.importorskip("tblite.ase", reason="needs the extra xtb")
    atoms = splits["test_1200K"][7].copy()
    atoms.calc = calculators.TBLite(method="GFN2-xTB", accuracy=0.01, verbosity=0)
    assert atoms.get_potential_energy() == pytest.approx(splits["test_1200K"][7].get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(atoms.get_forces(), splits["test_1200K"][7].get_forces(), atol=1e-4)
