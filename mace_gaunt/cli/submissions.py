"""`leaderboard=FILE`: what is checked before anything is predicted."""

from pathlib import Path

from omegaconf import DictConfig

from mace_gaunt.cli.build import is_oc20
from mace_gaunt.data.oc20 import OC20DataModule
from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.leaderboard import Submission, check_file, check_splits
from mace_gaunt.evaluation.streams import nearest_folder


def open_submission(config: DictConfig, data: OC20DataModule) -> Submission | None:
    """The submission that predictions go to, of the task of the data; None without `leaderboard`.

    Args:
        config: The checked configuration.
        data: The data module.

    Raises:
        UserError: If no such file can be made of these data, as the first frame of each set tells.
    """
    if config.leaderboard is None:
        return None
    path = check_submission_file(config, config.leaderboard)
    check_splits(data.test_files())
    submission = Submission(data.task, data.energy_reference, nearest_folder(path.parent))
    for split, frames in data.test_frames.items():
        submission.check_names(split, int(frames[0].sid), int(frames[0].fid))
    return submission


def open_relaxed(config: DictConfig, data: OC20DataModule) -> dict[Path, Submission]:
    """The submissions that relaxed systems go to: is2re at the file named, is2rs beside it; none without `leaderboard`.

    Args:
        config: The checked configuration.
        data: The data module.

    Raises:
        UserError: If no such files can be made of these data.
    """
    if config.leaderboard is None:
        return {}
    energies = check_submission_file(config, config.leaderboard)
    positions = check_submission_file(config, energies.with_stem(f"{energies.stem}_is2rs"))
    check_splits(data.test_files())
    folder = nearest_folder(energies.parent)
    return {
        energies: Submission("is2re", data.energy_reference, folder),
        positions: Submission("is2rs", data.energy_reference, folder),
    }


def check_submission_file(config: DictConfig, file: str | Path) -> Path:
    """The file of a submission.

    Args:
        config: The checked configuration.
        file: What it is called.

    Raises:
        UserError: If the data are not OC20's, the name does not end in .npz, or the file is there and may not be
            replaced.
    """
    if not is_oc20(config.data):
        raise UserError("leaderboard=FILE is for OC20: evaluate with data=oc20.")
    path = check_file(file)
    if path.exists() and not config.overwrite:
        raise UserError(f"leaderboard={path} exists. Choose another name, or set overwrite=true.")
    return path
