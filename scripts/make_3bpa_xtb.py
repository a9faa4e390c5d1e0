"""Make the bundled data set data/3bpa_xtb: the 3BPA benchmark's splits with GFN2-xTB energies and forces.

Usage (about 20 minutes on 2 cores, needs the extra `xtb`):

    OMP_NUM_THREADS=1 python scripts/make_3bpa_xtb.py --out data/3bpa_xtb --processes 2

Everything starts from a z-matrix with textbook bond lengths below, optimised with GFN2-xTB; no third-party geometry
is used. Random numbers are seeded per trajectory, so the number of processes does not matter; trajectories are
chaotic, so another machine or library version gives other frames of the same distribution.
"""

import argparse
import gzip
import hashlib
import multiprocessing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.optimize import BFGS
from tblite.ase import TBLite

# 3-(benzyloxy)pyridin-2-amine, heavy atoms in the order of SMILES NC1=NC=CC=C1OCC1=CC=CC=C1, then hydrogens.
# Row: symbol, then bonded atom, angle atom, dihedral atom, distance (Å), angle and dihedral (degrees).
Z_MATRIX = """
N
C  0               1.37
N  1  0            1.34  118
C  2  1  0         1.34  120    180
C  3  2  1         1.39  120      0
C  4  3  2         1.39  120      0
C  5  4  3         1.39  120      0
O  6  5  4         1.36  120    180
C  7  6  5         1.43  118      0
C  8  7  6         1.50  108    180
C  9  8  7         1.39  120     90
C 10  9  8         1.39  120    180
C 11 10  9         1.39  120      0
C 12 11 10         1.39  120      0
C 13 12 11         1.39  120      0
H  0  1  2         1.01  118      0
H  0  1  2         1.01  118    180
H  3  2  1         1.09  120    180
H  4  3  2         1.09  120    180
H  5  4  3         1.09  120    180
H  8  7  6         1.09  109.5   60
H  8  7  6         1.09  109.5  -60
H 10 11 12         1.09  120    180
H 11 12 13         1.09  120    180
H 12 13 14         1.09  120    180
H 13 12 11         1.09  120    180
H 14 13 12         1.09  120    180
"""

# alpha, beta, gamma of the benchmark: the four atoms, and the atoms that turn when the angle is set.
DIHEDRALS = {
    "alpha": ([8, 7, 6, 1], [0, 1, 2, 3, 4, 5, 15, 16, 17, 18, 19]),
    "beta": ([6, 7, 8, 9], [9, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 25, 26]),
    "gamma": ([7, 8, 9, 10], [10, 11, 12, 13, 14, 22, 23, 24, 25, 26]),
}
UNPAIRED_ELECTRONS = {"H": 1, "C": 2, "N": 3, "O": 2}
CELL = 50.0  # Å; the benchmark's frames carry a cube of this size with pbc="F F F"
TIMESTEP_FS = 1.0
FRICTION_PER_FS = 0.01
EQUILIBRATION_STEPS = 1000
INTERVAL_STEPS = 25
START_WINDOW_EV = 0.6  # a trajectory starts from rigid dihedrals at most this far above the minimum
SLICE_WINDOW_EV = 2.0  # rigid slices leave out the clashes above this energy
BETAS = (120, 150, 180)
ALPHAS = range(0, 360, 15)
GAMMAS = range(0, 180, 15)  # the phenyl ring repeats after 180 degrees


@dataclass(frozen=True)
class Trajectory:
    """One MD run: a split's frames at one temperature, with its own seed."""

    split: str
    temperature_K: float
    num_frames: int
    seed: int


def plan_trajectories() -> list[Trajectory]:
    """All MD runs in the order of the files' frames."""
    blocks = [
        ("train_300K", 300, [50] * 10),
        ("train_mixedT", 300, [42, 42, 42, 41]),
        ("train_mixedT", 600, [42, 42, 42, 41]),
        ("train_mixedT", 1200, [42, 42, 41, 41]),
        ("test_300K", 300, [50] * 5),
        ("test_600K", 600, [50] * 5),
        ("test_1200K", 1200, [50] * 5),
    ]
    runs = [(split, temperature, frames) for split, temperature, counts in blocks for frames in counts]
    return [Trajectory(*run, seed=seed) for seed, run in enumerate(runs)]


def xtb(accuracy: float, **settings: object) -> TBLite:
    """A silent GFN2-xTB calculator; a smaller accuracy is a tighter SCF."""
    return TBLite(method="GFN2-xTB", accuracy=accuracy, verbosity=0, **settings)


def place(bond: np.ndarray, angle: np.ndarray, dihedral: np.ndarray, values: list[float]) -> np.ndarray:
    """The position at distance, angle and dihedral (Å, degrees) from three placed atoms."""
    distance, theta, phi = values[0], *np.radians(values[1:])
    axis = (bond - angle) / np.linalg.norm(bond - angle)
    normal = np.cross(angle - dihedral, axis)
    normal /= np.linalg.norm(normal)
    inplane = np.cross(normal, axis)
    step = -np.cos(theta) * axis + np.sin(theta) * (np.cos(phi) * inplane + np.sin(phi) * normal)
    return bond + distance * step


def build_molecule() -> Atoms:
    """The molecule of Z_MATRIX, positions [27, 3] in Å."""
    symbols: list[str] = []
    positions: list[np.ndarray] = []
    for line in Z_MATRIX.split("\n")[1:-1]:
        symbol, *fields = line.split()
        if len(positions) == 0:
            position = np.zeros(3)
        elif len(positions) == 1:
            position = np.array([float(fields[1]), 0.0, 0.0])
        elif len(positions) == 2:
            values = [float(fields[2]), float(fields[3]), 0.0]
            position = place(positions[1], positions[0], np.array([0.0, 1.0, 0.0]), values)
        else:
            near = [positions[int(field)] for field in fields[:3]]
            position = place(*near, [float(field) for field in fields[3:]])
        symbols.append(symbol)
        positions.append(position)
    return Atoms(symbols, positions)


def optimised_molecule() -> Atoms:
    """The GFN2-xTB minimum next to the z-matrix (forces below 0.01 eV/Å)."""
    atoms = build_molecule()
    atoms.calc = xtb(accuracy=0.1)
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=500)
    return turn(atoms)


def turn(atoms: Atoms, **angles: float) -> Atoms:
    """A rigid copy with the named dihedrals set, in degrees."""
    turned = Atoms(atoms.numbers, atoms.positions)
    for name, angle in angles.items():
        quartet, moving = DIHEDRALS[name]
        turned.set_dihedral(*quartet, angle, indices=moving)
    return turned


def energy(atoms: Atoms) -> float:
    """Energy in eV, or infinity where the atoms are so close that the SCF fails."""
    atoms.calc = xtb(accuracy=1.0)
    try:
        return float(atoms.get_potential_energy())
    except CalculationFailed:
        return float("inf")


def random_start(minimum: Atoms, rng: np.random.Generator) -> Atoms:
    """Rigid dihedrals drawn uniformly until the energy is within START_WINDOW_EV of the minimum."""
    lowest = energy(turn(minimum))
    while True:
        atoms = turn(minimum, **dict(zip(DIHEDRALS, rng.uniform(0, 360, 3), strict=True)))
        distances = atoms.get_all_distances()[np.triu_indices(len(atoms), 1)]
        if distances.min() > 0.9 and energy(atoms) < lowest + START_WINDOW_EV:
            return atoms


def is_intact(atoms: Atoms, minimum: Atoms) -> bool:
    """Whether every bond of the minimum is still shorter than 1.5 times its length there."""
    radii = np.where(minimum.numbers == 1, 0.32, 0.73)
    lengths = minimum.get_all_distances()
    bonded = lengths < 1.3 * (radii[:, None] + radii[None, :])
    return bool((atoms.get_all_distances() < 1.5 * lengths)[bonded & (lengths > 0)].all())


def run_trajectory(job: tuple[Atoms, Trajectory]) -> list[Atoms]:
    """Langevin dynamics of one run; returns its labelled frames."""
    minimum, run = job
    rng = np.random.default_rng([2026, run.seed])
    atoms = random_start(minimum, rng)
    atoms.calc = xtb(accuracy=1.0)
    thermalize_momenta(atoms, run.temperature_K, rng=rng)
    dynamics = Langevin(
        atoms,
        TIMESTEP_FS * units.fs,
        temperature_K=run.temperature_K,
        friction=FRICTION_PER_FS / units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(EQUILIBRATION_STEPS)
    frames, temperatures = [], []
    for _ in range(run.num_frames):
        dynamics.run(INTERVAL_STEPS)
        if not is_intact(atoms, minimum):
            raise RuntimeError(f"a bond broke in {run}")
        frames.append(label(atoms))
        temperatures.append(atoms.get_temperature())
    print(f"{run}: mean temperature {np.mean(temperatures):.0f} K", flush=True)
    return frames


def label(atoms: Atoms) -> Atoms:
    """Centre the frame, round it to the decimals of the file and only then compute energy and forces."""
    positions = np.round(atoms.positions - atoms.get_center_of_mass(), 5)
    frame = Atoms(atoms.numbers, positions)
    calculator = xtb(accuracy=0.01)
    calculator.calculate(frame, ["energy", "forces"])
    frame.info["energy"] = float(calculator.results["energy"])
    frame.arrays["forces"] = calculator.results["forces"]
    frame.info["dihedrals"] = [round(float(frame.get_dihedral(*quartet)), 2) for quartet, _ in DIHEDRALS.values()]
    return frame


def dihedral_slice(job: tuple[Atoms, int]) -> list[Atoms]:
    """One rigid slice: beta fixed, alpha and gamma on a grid, clashes left out."""
    minimum, beta = job
    ceiling = energy(turn(minimum)) + SLICE_WINDOW_EV
    frames = []
    for alpha in ALPHAS:
        for gamma in GAMMAS:
            atoms = turn(minimum, alpha=alpha, beta=beta, gamma=gamma)
            if energy(atoms) < ceiling:
                frames.append(label(atoms))
    print(f"beta {beta}: kept {len(frames)} of {len(ALPHAS) * len(GAMMAS)}", flush=True)
    return frames


def frame_text(frame: Atoms) -> str:
    """One extxyz frame with the benchmark's header; positions and forces with five decimals."""
    cube = " ".join(f"{CELL if i % 4 == 0 else 0.0:.1f}" for i in range(9))
    header = (
        f'Lattice="{cube}" Properties=species:S:1:pos:R:3:forces:R:3 energy={frame.info["energy"]:.8f} '
        f'dihedrals="_JSON {frame.info["dihedrals"]}" pbc="F F F"'
    )
    rows = (
        symbol + " " + " ".join(f"{value + 0.0:.5f}" for value in (*position, *force))
        for symbol, position, force in zip(frame.symbols, frame.positions, frame.arrays["forces"].round(5), strict=True)
    )
    return "\n".join([str(len(frame)), header, *rows]) + "\n"


def isolated_atoms_text() -> str:
    """The free atoms with the unpaired electrons of their ground states, as in the benchmark's iso_atoms.xyz."""
    text = ""
    for symbol, unpaired in UNPAIRED_ELECTRONS.items():
        atoms = Atoms(symbol)
        atoms.calc = xtb(accuracy=0.01, multiplicity=unpaired + 1)
        header = f'Properties=species:S:1:pos:R:3 energy={atoms.get_potential_energy():.8f} pbc="F F F"'
        text += f"1\n{header}\n{symbol} 0.00000 0.00000 0.00000\n"
    return text


def write_split(path: Path, frames: Iterable[Atoms]) -> str:
    """Write NAME.xyz.gz with a fixed time stamp and return its row of the README's table."""
    texts = [frame_text(frame) for frame in frames]
    # An empty file name and mtime 0 make the bytes a function of the text alone.
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=9, mtime=0) as file:
        file.write("".join(texts).encode())
    return table_row(path, len(texts))


def table_row(path: Path, num_frames: int) -> str:
    """Name, frames, bytes and sha256 of a file."""
    content = path.read_bytes()
    return f"| `{path.name}` | {num_frames} | {len(content)} | `{hashlib.sha256(content).hexdigest()}` |"


def main() -> None:
    """Run all trajectories and slices, write the files and print the README's table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "data" / "3bpa_xtb")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    minimum = optimised_molecule()
    runs = plan_trajectories()
    splits: dict[str, list[Atoms]] = {}
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        slices = pool.map(dihedral_slice, [(minimum, beta) for beta in BETAS], chunksize=1)
        trajectories = pool.map(run_trajectory, [(minimum, run) for run in runs], chunksize=1)
    for run, frames in zip(runs, trajectories, strict=True):
        splits.setdefault(run.split, []).extend(frames)
    splits["test_dih"] = [frame for frames in slices for frame in frames]
    rows = [write_split(arguments.out / f"{split}.xyz.gz", frames) for split, frames in splits.items()]
    isolated = arguments.out / "iso_atoms.xyz"
    isolated.write_text(isolated_atoms_text())
    print("\n".join([*rows, table_row(isolated, len(UNPAIRED_ELECTRONS))]))


if __name__ == "__main__":
    main()
