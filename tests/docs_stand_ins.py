"""Files that the pages leave to their reader, small: data, models, structures, under the names that the pages give."""

import functools
import gzip
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ase.build
import ase.io
import mace_cases
import numpy as np
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.lammpsdata import write_lammps_data
from docs_commands import BLOCK, ROOT
from oc20_files import graph_fields, make_slab, pickle_graph, write_extxyz, write_lmdb, write_shard

from mace_gaunt import MaceGauntCalculator
from mace_gaunt.cli.main import main

BUNDLED = ROOT / "data" / "3bpa_xtb"
SMALL = (
    "num_channels=4 max_ell=2 correlation=2 radial_MLP=[8] r_max=4 valid_size=4 max_train_frames=12 "
    "compile=off device=cpu"
)
PICKLED = ROOT.parent / "shared/data/mace_reference/dev1_small_l1/whole_model.model"
"""A model that mace-torch has pickled; only a part of the machines has it."""
SPLITS = ("id", "ood_ads", "ood_cat", "ood_both")


@dataclass
class Session:
    """A page that is being run.

    Attributes:
        runs: Folder of the models that several pages take for granted.
        names: What a session of Python holds so far.
        replaced: Text of commands -> what stands in for it.
        ends: What is to be closed behind the page.
    """

    runs: Path
    names: dict[str, Any] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    ends: ExitStack = field(default_factory=ExitStack)


def bundled_files(session: Session) -> None:
    """The bundled data, test sets cut to a few frames, and the bundled model."""
    write_3bpa(Path("data/3bpa_xtb"))
    shutil.copytree(ROOT / "data" / "models", "data/models")


def write_3bpa(folder: Path) -> None:
    """The splits of the bundled set, with 120 frames to train on and six in each test set."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(BUNDLED / "iso_atoms.xyz", folder)
    for path in BUNDLED.glob("*.gz"):
        lines = gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)
        size = int(lines[0]) + 2
        frames = ["".join(lines[i : i + size]) for i in range(0, len(lines), size)]
        count = 6 if path.name.startswith("test_") else 120
        (folder / path.name).write_bytes(gzip.compress("".join(frames[:: len(frames) // count]).encode()))


def molecules(session: Session) -> None:
    """Files of a reader's own: structures of 3BPA; what a session of Python would hold."""
    frames = ase.io.read(BUNDLED / "train_300K.xyz.gz", ":30")
    ase.io.write("molecule.xyz", frames[0])
    isolated = ase.io.read(BUNDLED / "iso_atoms.xyz", ":")
    for name, chosen in {"my_data": frames, "train": frames, "test": frames[20:], "my": frames[25:]}.items():
        ase.io.write(f"{name}.xyz", [*isolated, *chosen] if chosen is frames else chosen, format="extxyz")
    session.names |= {"atoms": frames[0], "MaceGauntCalculator": MaceGauntCalculator}


def trained_runs(session: Session) -> None:
    """Finished trainings, and one that was cut off before it wrote its model."""
    for name in ("first", "second", "unfinished"):
        shutil.copytree(train_first(session.runs), Path("runs") / name)
    shutil.rmtree("runs/unfinished/model")
    shutil.rmtree("runs/unfinished/report")


@functools.cache
def train_first(folder: Path) -> Path:
    """A run on the bundled data."""
    write_3bpa(folder / "3bpa_xtb")
    data = [f"data.root={folder / '3bpa_xtb'}", "data.test=test_300K"]
    assert (
        main(["train", "experiment=quickstart", *SMALL.split(), *data, "max_epochs=2", f"run={folder / 'first'}"]) == 0
    )
    return folder / "first"


def crystals(session: Session) -> None:
    """Copper, and a model of it trained on EMT."""
    shutil.copytree(train_copper(session.runs), "runs/mine")
    ase.io.write("crystal.cif", ase.build.bulk("Cu", cubic=True))


@functools.cache
def train_copper(folder: Path) -> Path:
    """A run that has learned copper well enough to have a minimum."""
    path, run = folder / "copper.xyz", folder / "mine"
    ase.io.write(path, [strained_copper(seed) for seed in range(40)], format="extxyz")
    words = [*SMALL.split(), "max_train_frames=null", "max_epochs=20", "loss.stress_weight=100"]
    assert main(["train", f"train_file={path}", "E0s=zero", *words, f"run={run}"]) == 0
    return run


def strained_copper(seed: int) -> Atoms:
    """A shaken, strained crystal with the energy, forces and stress of EMT."""
    rng = np.random.default_rng(seed)
    atoms = ase.build.bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.03, (3, 3))), scale_atoms=True)
    atoms.rattle(0.05, rng=rng)
    atoms.calc = EMT()
    values = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **values)
    return atoms


def official_3bpa(session: Session) -> None:
    """Splits of 3BPA where `data=3bpa` looks for them, and in DIR also those of results.md."""
    for folder in ("data/3bpa", "DIR"):
        write_3bpa(Path(folder))
    for name in ("test_300K", "test_600K"):
        shutil.copy(f"DIR/{name}.xyz.gz", f"DIR/{name}_dev.xyz.gz")
    # Slices of it count all 500 frames.
    shutil.copy(BUNDLED / "train_mixedT.xyz.gz", "DIR")


def small_recipes(session: Session) -> None:
    """Frames of 3BPA under the names of AcAc's splits, and, without nitrogen, of aspirin's."""
    for name in ("test_MD_300K", "test_MD_600K", "test_dihedral", "test_H_transfer"):
        shutil.copy("DIR/test_300K.xyz.gz", f"DIR/{name}.xyz.gz")
    shutil.copy("DIR/iso_atoms.xyz", "DIR/isolated_atoms.xyz")
    for name, source in {"aspirin_train": "train_300K", "aspirin_test": "test_300K"}.items():
        frames = ase.io.read(f"DIR/{source}.xyz.gz", ":")
        for atoms in frames:
            atoms.numbers[atoms.numbers == 7] = 6
        ase.io.write(f"DIR/{name}.xyz", frames, format="extxyz")


def slabs(split: str, count: int = 4) -> list[Atoms]:
    """Slabs of one split, of compositions that tell the elements apart."""
    first = 10 * SPLITS.index(split) if split in SPLITS else 100
    frames = [make_slab(first + i, fid=i) for i in range(count)]
    for i, atoms in enumerate(frames):
        atoms.symbols[:3] = ["Cu", "O" if i % 2 else "H", "Cu" if i % 3 else "H"]
    return frames


def oc20(session: Session) -> None:
    """S2EF and IS2RE as the archives have them, test sets without labels; relaxations and the linear fit."""
    for folder, split in (("s2ef/200k/train", "train"), ("s2ef/2M/train", "2M"), ("s2ef/all/train", "all")):
        path = Path("DIR") / folder
        path.mkdir(parents=True)
        write_shard(path, 0, slabs(split, 12))
    shutil.copytree("DIR/s2ef/2M/train", "s2ef_train_2M")
    shutil.copytree("DIR/s2ef/all/train", "s2ef_train_all")
    write_is2re("DIR/is2re/10k/train", slabs("train", 12), True)
    for split in SPLITS:
        path = Path(f"DIR/s2ef/all/val_{split}")
        path.mkdir()
        write_shard(path, 0, slabs(split))
        write_is2re(f"DIR/is2re/all/val_{split}", slabs(split), True)
        write_is2re(f"DIR/is2re/all/test_{split}", slabs(split), False)
        fields = [{k: v for k, v in graph_fields(a).items() if k not in ("energy", "forces")} for a in slabs(split)]
        write_lmdb(Path(f"DIR/s2ef/all/test_{split}.lmdb"), {b"%d" % i: pickle_graph(f) for i, f in enumerate(fields)})


def oc20_stores(session: Session) -> None:
    """The test sets of S2EF as stores."""
    for split in SPLITS:
        words = [f"path=DIR/s2ef/all/test_{split}.lmdb", f"out=stores/test_{split}", "r_max=5"]
        assert main(["data", "prepare", *words, "energy_reference=adsorption"]) == 0


def write_is2re(folder: str, frames: list[Atoms], labelled: bool) -> None:
    """First structures with the energy of the relaxed ones, 0.1 Å away along x."""
    Path(folder).mkdir(parents=True)
    records = {}
    for i, atoms in enumerate(frames):
        fields = {k: v for k, v in graph_fields(atoms).items() if k not in ("energy", "forces", "fid")}
        if labelled:
            fields |= {"y_init": 0.5, "y_relaxed": -1.0 - 0.1 * i, "pos_relaxed": fields["pos"].clone()}
            fields["pos_relaxed"][:, 0] += 0.1
        records[b"%d" % i] = pickle_graph(fields)
    write_lmdb(Path(folder) / "data.lmdb", records)


def relaxations(session: Session) -> None:
    """The files of experiment=oc20_small, and a linear fit of their energies."""
    Path("DIR/relaxations").mkdir(parents=True)
    for number in (100, 102, 103, 110, 126, 127, 138, 141, 151, 156, 161, 163, 164, 187, 193):
        write_extxyz(Path(f"DIR/relaxations/random1000{number}.extxyz.xz"), [make_slab(number + i) for i in range(4)])
    np.savez("DIR/oc20_linref.npz", coeff=np.full(100, -17.0))


def mace_models(session: Session) -> None:
    """A model of mace-torch under the names of the pages, as a folder and as a state dict."""
    config, state_dict = mace_cases.files("made_in_float32")
    for folder in ("water", "FOLDER", "DIR"):
        shutil.copytree(mace_cases.ROOT / "made_in_float32", folder, dirs_exist_ok=True)
    tensors = {name: torch.as_tensor(values) for name, values in state_dict.items()}
    torch.save(tensors, "water/state_dict.pt")
    if PICKLED.is_file():
        shutil.copy(PICKLED, "MACE.model")
    box = mace_cases.structures()[0]
    for name in ("box.xyz", "FILE", "START.xyz"):
        ase.io.write(name, box, format="extxyz")
    session.names |= {"config": config, "state_dict": state_dict, "atoms": box}
    session.names["MaceGauntCalculator"] = MaceGauntCalculator


def dask_cluster(session: Session) -> None:
    """A cluster that runs, in the place of the one at `head`."""
    if find_spec("distributed") is not None:
        from distributed import LocalCluster

        cluster = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)
        session.replaced["tcp://head:8786"] = session.ends.enter_context(cluster).scheduler_address


def lammps_input(session: Session) -> None:
    """The files of the page's own example, a short run of it that needs no variable."""
    page = (ROOT / "docs" / "lammps.md").read_text(encoding="utf-8")
    (script,) = [block["text"] for block in BLOCK.finditer(page) if "read_data" in block["text"]]
    Path("in.lmp").write_text("variable T index 300\n" + script.replace("run          200", "run 4"), encoding="utf-8")
    atoms = ase.io.read(BUNDLED / "test_300K.xyz.gz", 0)
    atoms.center(vacuum=3.0)
    atoms.pbc = True
    write_lammps_data("molecule.data", atoms, specorder=["C", "H", "N", "O"], masses=True, units="metal")


STAND_INS: dict[str, tuple[Callable[[Session], None], ...]] = {
    "README.md": (bundled_files, molecules),
    "choosing.md": (molecules,),
    "compare.md": (bundled_files, official_3bpa),
    "data.md": (bundled_files, oc20, dask_cluster),
    "export.md": (trained_runs, molecules),
    "finetuning.md": (bundled_files,),
    "first_potential.md": (bundled_files, molecules),
    "inspect.md": (bundled_files,),
    "lammps.md": (bundled_files, trained_runs, lammps_input),
    "mace_users.md": (mace_models,),
    "oc20.md": (oc20, oc20_stores),
    "own_data.md": (bundled_files, molecules),
    "reliability.md": (trained_runs, molecules),
    "reports.md": (bundled_files, trained_runs, molecules),
    "results.md": (bundled_files, official_3bpa, small_recipes, relaxations),
    "simulation.md": (bundled_files, crystals),
    "speed.md": (official_3bpa, mace_models),
    "sweeps.md": (bundled_files,),
    "training.md": (bundled_files, molecules, official_3bpa),
}
"""What each page needs; the others bring all they need."""
