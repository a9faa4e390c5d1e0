"""Where the files that come with the package are: in a checkout, and in an installed wheel."""

from pathlib import Path

from mace_gaunt.errors import UserError, nearest

PACKAGE = Path(__file__).resolve().parents[1]


def bundled_folders() -> list[Path]:
    """The folders that can hold bundled data, the checkout's first: there it is edited."""
    checkout = PACKAGE.parent
    # Beside an installed package lies site-packages, where a folder `data` would be somebody else's.
    folders = [checkout / "data"] if (checkout / "pyproject.toml").is_file() else []
    return [*folders, PACKAGE / "bundled"]


def bundled_path(name: str) -> Path:
    """Find a bundled data set or model folder.

    Args:
        name: Path below the bundled data, such as "3bpa_xtb" or "models/quickstart".

    Returns:
        The existing file or folder.

    Raises:
        UserError: If nothing of this name is bundled; names what is.
    """
    folders = bundled_folders()
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    known = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()}
    known |= {f"models/{path.name}" for folder in folders for path in folder.glob("models/*/")}
    raise UserError(f"no bundled data named '{name}' in {' or '.join(map(str, folders))}.{nearest(name, known)}")
