"""Loops over edges and nodes in C++, built once per machine by its own compiler and kept beside other caches."""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import torch

from mace_gaunt.cache import cache_folder, writable_folder

SOURCES = ("edges.cpp", "nodes.cpp")
HEADERS = ("lanes.hpp",)
COMPILE = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-Wno-psabi")
log = logging.getLogger(__name__)

COMPILERS = ("g++", "clang++", "c++")


def find_compiler() -> str:
    """The C++ compiler: $CXX, else the first that is found.

    Raises:
        ImportError: If there is none.
    """
    names = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        raise ImportError(f"kernel 'fused' needs a C++ compiler ({', '.join(names)}): install one, or set CXX")
    return found


@lru_cache(maxsize=1)
def load_library() -> ctypes.CDLL:
    """The library, built unless it was before.

    Raises:
        ImportError: If it cannot be built or loaded here, with the reason.
    """
    try:
        return ctypes.CDLL(str(find_library()))
    except OSError as error:
        raise ImportError(f"kernel 'fused' cannot be used here: {error}") from error


def find_library() -> Path:
    """The built library, from the cache or built now; in a temporary folder where the cache cannot be written.

    Raises:
        ImportError: If it cannot be built.
    """
    name = f"loops-{fingerprint()}.so"
    path = cache_folder() / name
    if not path.is_file():
        path = (writable_folder() or Path(tempfile.mkdtemp(prefix="mace_gaunt-"))) / name
        build(path)
    return path


def fingerprint() -> str:
    """Changes with source, flags, processor and the OpenMP that torch brings."""
    here = Path(__file__).parent
    parts = (
        [(here / name).read_text() for name in SOURCES + HEADERS],
        COMPILE,
        processor(),
        os.environ.get("CXX", ""),
        str(openmp()),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def processor() -> str:
    """Instructions of the processor: a cache may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor() + platform.node()


def openmp() -> Path | None:
    """torch's own OpenMP: two of them in one process would have twice the threads."""
    return next(iter(sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))), None)


def number_of(*content: bytes) -> int:
    """A number that stands for some content in every process: operators take numbers, and compiled code keeps them."""
    return int.from_bytes(hashlib.sha256(b"\0".join(content)).digest()[:6], "big")


def build(path: Path) -> None:
    """Compile, under a temporary name until it is complete.

    Raises:
        ImportError: With the compiler's message.
    """
    own = openmp()
    path.parent.mkdir(parents=True, exist_ok=True)
    log.info("building the loops of kernel 'fused' for this processor, some seconds; kept in %s", path)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        sources = [Path(__file__).with_name(name) for name in SOURCES]
        objects = [Path(folder) / f"{source.stem}.o" for source in sources]
        run(*([*COMPILE, "-c", str(source), "-o", str(one)] for source, one in zip(sources, objects, strict=True)))
        libraries = [str(own), f"-Wl,-rpath,{own.parent}"] if own else []
        result = Path(folder) / path.name
        run([*COMPILE, "-shared", *map(str, objects), "-o", str(result), *libraries])
        result.replace(path)


def run(*commands: list[str]) -> None:
    """Run the compiler, several times at once.

    Raises:
        ImportError: With the message of the first that fails.
    """
    compiler = find_compiler()
    jobs = [subprocess.Popen([compiler, *command], stderr=subprocess.PIPE, text=True) for command in commands]
    messages = [job.communicate()[1] for job in jobs]
    for job, message in zip(jobs, messages, strict=True):
        if job.returncode:
            command = " ".join(map(str, job.args)) if isinstance(job.args, list) else str(job.args)
            raise ImportError(f"kernel 'fused' could not be built by {command}: {message[-2000:]}")
