"""Where the configs are, and what can be chosen from them. Light: `--help` runs this without Hydra."""

from pathlib import Path

from mace_gaunt.errors import UserError, nearest

# Folders of the configs that are no groups: search spaces are read by `mace-gaunt sweep` alone.
NO_GROUPS = {"space"}
PACKAGE = Path(__file__).resolve().parents[1]


def config_dir() -> Path:
    """The folder of the configs: inside an installed package, beside the package in a checkout.

    Raises:
        UserError: If neither holds them, as in a broken installation.
    """
    for folder in (PACKAGE / "configs", PACKAGE.parent / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise UserError(f"no configs in {PACKAGE / 'configs'} or beside the package: the installation is incomplete.")


def list_groups(folders: list[Path]) -> set[str]:
    """The groups: folders with yaml files in them.

    Args:
        folders: Config folders, ours and the user's.
    """
    paths = [path for folder in folders for path in folder.iterdir() if path.is_dir() and any(path.glob("*.yaml"))]
    return {path.name for path in paths} - NO_GROUPS


def list_choices(group: str, folders: list[Path]) -> list[str]:
    """The choices of a group, sorted.

    Args:
        group: A group, such as "data".
        folders: Config folders, ours and the user's.
    """
    files = [path for folder in folders for path in (folder / group).rglob("*.yaml")]
    return sorted(path.relative_to(_group_folder(path, group)).with_suffix("").as_posix() for path in files)


def check_choice(group: str, choice: object, folders: list[Path]) -> None:
    """Refuse a choice that does not exist.

    Args:
        group: A group, such as "data".
        choice: A name, or several in a list.
        folders: Config folders, ours and the user's.

    Raises:
        UserError: Names the nearest choice.
    """
    known = list_choices(group, folders)
    for name in choice if isinstance(choice, (list, tuple)) else [choice]:
        if str(name) not in known:
            hint = nearest(str(name), known)
            also = f" Known: {', '.join(known)}." if "Did you mean" in hint else ""
            raise UserError(f"no {group} '{name}'.{hint}{also}")


def check_user_folder(folder: Path) -> None:
    """Refuse a `--config-dir` that would be ignored silently.

    Args:
        folder: The user's config folder.

    Raises:
        UserError: If it has no group of ours, or a choice under a name of ours.
    """
    ours = config_dir()
    groups = list_groups([ours])
    own = list_groups([folder])
    if not own:
        raise UserError(f"--config-dir {folder}: no choices in it. Expected files such as {folder}/data/mine.yaml.")
    for group in sorted(own):
        if group not in groups:
            raise UserError(f"--config-dir {folder}: no group '{group}'.{nearest(group, groups)}")
        twice = set(list_choices(group, [folder])) & set(list_choices(group, [ours]))
        if twice:
            raise UserError(f"--config-dir {folder}: {group}={min(twice)} exists already; choose another name.")


def _group_folder(path: Path, group: str) -> Path:
    return next(parent for parent in path.parents if parent.name == group)
