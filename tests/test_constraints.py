"""The pinned and hashed files of constraints/ answer to pyproject.toml; `bash scripts/lock.sh` writes them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ("build.txt", "runtime.txt", "dev.txt", "torch.txt")
PYTHONS = ("3.11", "3.12", "3.13")


def entries(file: str) -> list[str]:
    """The entries of a lock, each with its hashes on one line."""
    text = (ROOT / "constraints" / file).read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    return text.replace("\\\n", " ").splitlines()


def pins(file: str, python: str) -> dict[str, str]:
    """Name -> version, as one Python on Linux reads a lock."""
    machine = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
    }
    read = [Requirement(entry.split("--hash")[0]) for entry in entries(file)]
    used = [item for item in read if item.marker is None or item.marker.evaluate(machine)]
    versions = {canonicalize_name(item.name): str(item.specifier).removeprefix("==") for item in used}
    assert len(versions) == len(used), f"{file} pins a package twice for Python {python}"
    return versions


def asked_for(extra: str) -> list[Requirement]:
    """The direct requirements of an extra, those of the extras it consists of included."""
    found = []
    for text in PROJECT["project"]["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == PROJECT["project"]["name"]:
            found += [item for part in requirement.extras for item in asked_for(part)]
        else:
            found.append(requirement)
    return found


@pytest.mark.parametrize("file", LOCKS)
def test_every_entry_is_a_version_with_hashes_and_names_no_address(file):
    assert entries(file)
    for entry in entries(file):
        assert re.fullmatch(r"[\w.-]+==[\w.!]+( ; [^;]+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*", entry), entry


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locks_hold_what_pyproject_asks_for(python):
    runtime = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    build = [Requirement(text) for text in PROJECT["build-system"]["requires"]]
    for file, wanted in {"runtime.txt": runtime, "dev.txt": [*runtime, *asked_for("dev")], "build.txt": build}.items():
        locked = pins(file, python)
        for requirement in wanted:
            if requirement.name == "torch":
                assert "torch" not in locked, "its hashes depend on the build, so it stands in torch.txt alone"
                assert requirement.specifier.contains(pins("torch.txt", python)["torch"])
                continue
            version = locked.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement} is not in constraints/{file}: bash scripts/lock.sh"
            assert requirement.specifier.contains(version), f"{requirement}, but constraints/{file} has {version}"


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locks_agree_with_each_other_and_with_the_torch_that_is_tested(python):
    versions: dict[str, set[str]] = {}
    for file in LOCKS:
        for name, version in pins(file, python).items():
            versions.setdefault(name, set()).add(version)
    assert {name: sorted(several) for name, several in versions.items() if len(several) > 1} == {}
    tested = Requirement((ROOT / "constraints" / "ci.txt").read_text(encoding="utf-8").strip())
    assert f"=={pins('torch.txt', python)['torch']}" == str(tested.specifier)


def test_the_locks_are_checked_for_every_python_that_is_supported():
    classifiers = PROJECT["project"]["classifiers"]
    assert [line.split()[-1] for line in classifiers if re.search(r":: 3\.\d+$", line)] == list(PYTHONS)
