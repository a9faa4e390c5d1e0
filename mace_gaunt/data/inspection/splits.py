"""Which files train and which test, by their names, and the elements that only the latter have."""

import re
from collections.abc import Sequence
from pathlib import PurePath

from mace_gaunt.data.inspection.file_report import FileReport

TRAIN = re.compile(r"(?<![a-z])train", re.IGNORECASE)
TEST = re.compile(r"(?<![a-z])(test|valid|validation|val|ood)(?![a-z])", re.IGNORECASE)


def role(path: str) -> str | None:
    """ "train" or "test" (validation as well), by the name of the file or of the folders it is in; None without a hint.

    The last part of the path that tells counts: data/train/test_300K.xyz is a test file.
    """
    for part in reversed(PurePath(path).parts):
        for name, pattern in (("train", TRAIN), ("test", TEST)):
            if pattern.search(part):
                return name
    return None


def assign_roles(paths: Sequence[str], one_by_one: bool) -> tuple[list[str | None], str | None]:
    """The role of each file.

    Args:
        paths: The files, without the part of the path that is common to all (it tells nothing).
        one_by_one: Whether each file was named by the user.

    Returns:
        "train", "test" or None for each; and a remark when a role was assumed: where no name tells and several files
        are named one by one, the first is taken as the training set.
    """
    roles = [role(path) for path in paths]
    if len(paths) < 2 or any(roles) or not one_by_one:
        return roles, None
    return [
        "train",
        *["test"] * (len(paths) - 1),
    ], f"no name tells which file is for training; {paths[0]} is taken for it"


def elements_only_tested(files: Sequence[FileReport], roles: Sequence[str | None]) -> dict[str, list[str]]:
    """Elements of test files that no training file has.

    Args:
        files: The reports.
        roles: Their roles.

    Returns:
        Path -> symbols, for the test files that have such; empty when there is no training file.
    """
    trained = {s for file, part in zip(files, roles, strict=True) if part == "train" for s in file.elements}
    if not trained:
        return {}
    lacking = {
        file.path: [symbol for symbol in file.elements if symbol not in trained]
        for file, part in zip(files, roles, strict=True)
        if part == "test"
    }
    return {path: found for path, found in lacking.items() if found}
