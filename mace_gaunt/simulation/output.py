"""Output folders: decided on before any work, made after it."""

from collections.abc import Sequence
from pathlib import Path

from mace_gaunt.errors import UserError
from mace_gaunt.files import check_writable


def check_output(out: str | Path, files: Sequence[str], overwrite: bool, can_resume: bool = False) -> Path:
    """Refuse a folder that cannot be used; makes nothing.

    Args:
        out: The folder.
        files: Names in it that an earlier run would have left.
        overwrite: Whether those may be replaced.
        can_resume: Whether the earlier run could be continued, which the message says then.

    Returns:
        The folder as a path.

    Raises:
        UserError: If it is or lies under a file, is read-only, or holds files that may not be replaced.
    """
    folder = Path(out).expanduser()
    in_the_way = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if in_the_way is not None:
        raise UserError(f"out='{out}' is to be a folder, but '{in_the_way}' is a file.")
    present = [name for name in files if (folder / name).exists()]
    if present and not overwrite:
        ways = "Choose another out, resume=auto to continue, or" if can_resume else "Choose another out, or"
        raise UserError(f"'{out}' already holds {', '.join(present)}. {ways} set overwrite=true.")
    check_writable(folder)
    return folder
