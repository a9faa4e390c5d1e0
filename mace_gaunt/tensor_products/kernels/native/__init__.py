"""Loops over edges and nodes in C++, built once per machine by its own compiler and kept beside other caches."""

import atexit
import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import torch

from mace_gaunt.cache import cache_folder, writable_folder

SOURCES = ("edges.cpp", "nodes.cpp")
HEADERS = ("lanes.hpp",)
COMPILE = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-Wno-psabi")
log = logging.getLogger(__name__)

COMPILERS = ("g++", "clang++", "c++")
SUFFIXES = {torch.float32: "float32", torch.float64: "float64"}


class MissingCompilerError(ImportError):
    """There is no C++ compiler."""


def suffix_of(dtype: torch.dtype) -> str:
    """The end of the names of the library's functions in a precision.

    Raises:
        ValueError: If there are none.
    """
    if dtype not in SUFFIXES:
        raise ValueError(f"kernel 'fused' computes in {' or '.join(SUFFIXES.values())} only, not in {dtype}")
    return SUFFIXES[dtype]


def words_of_user() -> list[str]:
    """$CXX: a compiler, maybe with flags, or with another program before it.

    Raises:
        ImportError: If it has a quotation mark without its second.
    """
    try:
        return shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise ImportError(f"kernel 'fused' cannot be built: CXX={os.environ['CXX']}: {error}") from error


def find_compiler() -> str:
    """The C++ compiler: the first word of $CXX, else the first that is found.

    Raises:
        MissingCompilerError: If there is none.
    """
    names = tuple(words_of_user()[:1]) or COMPILERS
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        raise MissingCompilerError(f"kernel 'fused' needs a C++ compiler ({', '.join(names)}): install one, or set CXX")
    return found


def load_library() -> ctypes.CDLL:
    """The library, built unless it was before.

    Raises:
        ImportError: If it cannot be built or loaded here, with the reason.
    """
    found = library_or_reason()
    if isinstance(found, str):
        raise ImportError(found)
    return found


@lru_cache(maxsize=1)
def library_or_reason() -> ctypes.CDLL | str:
    """The library, or why it could not be made: a process tries that once, since it takes seconds to fail.

    Raises:
        MissingCompilerError: Not remembered, since it is soon found out, and one may be installed meanwhile.
    """
    try:
        return open_library()
    except MissingCompilerError as error:
        tell(str(error))
        raise
    except (ImportError, OSError) as error:
        reason = str(error) if isinstance(error, ImportError) else f"kernel 'fused' cannot be used here: {error}"
        tell(reason)
        return reason


@lru_cache
def tell(reason: str) -> None:
    """Warn, once for each reason."""
    log.warning("%s. kernel=auto goes on with the other kernels", reason)


def open_library() -> ctypes.CDLL:
    """The library of the cache if it can be loaded, else one that is built now.

    Raises:
        ImportError: If it cannot be built.
        OSError: If what was built cannot be loaded.
    """
    kept = kept_library()
    if kept is not None:
        try:
            return ctypes.CDLL(str(kept))
        except OSError as error:
            log.info("%s cannot be loaded (%s)", kept, error)
    return ctypes.CDLL(str(new_library()))


def kept_library() -> Path | None:
    """The library in the cache, be it one that cannot be written; None if there is none, or no home to keep it in."""
    with suppress(OSError, RuntimeError):
        path = cache_folder() / library_name()
        if path.is_file():
            return path
    return None


def new_library() -> Path:
    """The library, built now; in a folder that goes with the process where the cache cannot be written.

    Raises:
        ImportError: If it cannot be built.
    """
    folder = writable_folder()
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="mace_gaunt-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / library_name()
    build(path)
    return path


def library_name() -> str:
    """Name of the library's file."""
    return f"loops-{fingerprint()}.so"


def fingerprint() -> str:
    """Changes with source, flags, processor, the C library and the OpenMP that torch brings."""
    here = Path(__file__).parent
    parts = (
        [(here / name).read_text() for name in SOURCES + HEADERS],
        COMPILE,
        processor(),
        os.environ.get("CXX", ""),
        str(openmp()),
        platform.libc_ver(),
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
        with result.open("rb") as file:
            # A file that is cut off would end every process that loads it.
            os.fsync(file.fileno())
        result.replace(path)


def run(*commands: list[str]) -> None:
    """Run the compiler, several times at once.

    Raises:
        ImportError: With the message of the first that fails.
    """
    compiler = [find_compiler(), *words_of_user()[1:]]
    jobs = [subprocess.Popen([*compiler, *command], stderr=subprocess.PIPE, text=True) for command in commands]
    messages = [job.communicate()[1] for job in jobs]
    for job, message in zip(jobs, messages, strict=True):
        if job.returncode:
            command = " ".join(map(str, job.args)) if isinstance(job.args, list) else str(job.args)
            raise ImportError(f"kernel 'fused' could not be built by {command}: {message[-2000:]}")
