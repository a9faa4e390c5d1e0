"""The 3BPA benchmark by the names of its splits."""

import logging
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from mace_gaunt.data.bundled import bundled_path
from mace_gaunt.data.datamodule import AtomsDataModule, Files, name_files
from mace_gaunt.data.readers import COMPRESSION, Frames, bare_stem, bare_suffix, split_slice
from mace_gaunt.errors import UserError, nearest

log = logging.getLogger(__name__)

OFFICIAL_TESTS = ("test_300K", "test_600K", "test_1200K", "test_dih")
WHERE_TO_GET = (
    "`mace-gaunt data download data=3bpa` fetches the official files; by hand they are in the folder dataset_3BPA of "
    "https://github.com/davkovacs/BOTNet-datasets."
)
BETAS = {f"test_dih_beta{beta}": float(beta) for beta in (120, 150, 180)}


class ThreeBPADataModule(AtomsDataModule):
    """3BPA and sets of its layout: a folder in which every NAME.xyz (also .gz, .xz) is a split.

    A split may be sliced: `train_mixedT[334:]`. `iso_atoms` gives the E0s. Where there are no files of the slices
    `test_dih_beta120`, `test_dih_beta150` and `test_dih_beta180`, they are taken from `test_dih` by its `dihedrals`.
    """

    def __init__(
        self,
        r_max: float,
        root: str | Path | None = None,
        train: str = "train_300K",
        valid: str | None = None,
        test: Files | None = None,
        train_file: Files | None = None,
        valid_file: Files | None = None,
        test_file: Files | None = None,
        **settings: Any,
    ) -> None:
        """Keep the settings; no file is touched.

        Args:
            r_max: Cutoff radius (Å).
            root: Folder of the splits; None is $MACE_GAUNT_DATA/3bpa, or data/3bpa where that variable is not set;
                "bundled" is the set that comes with the package, computed with GFN2-xTB.
            train: Split to train on.
            valid: Split to validate on; None splits it off the training set.
            test: Splits to test on; None is every split whose name begins with "test_".
            train_file: Files instead of `train`.
            valid_file: Files instead of `valid`.
            test_file: Files instead of `test`.
            settings: The other settings of `AtomsDataModule`.
        """
        super().__init__(r_max, train_file or train, valid_file or valid, test_file or test, **settings)
        self.root = find_root(root)

    def resolve(self, files: Files | None) -> dict[str, str | Path]:
        """Name -> file; a word without folder and suffix is a split.

        Raises:
            UserError: If there is no such split; names the nearest, and where to get the official ones.
        """
        return {name: self._find(file) for name, file in name_files(files).items()}

    def isolated_files(self) -> dict[str, str | Path]:
        """The isolated atoms: those named, else the split `iso_atoms` where there is one."""
        splits = list_splits(self.root)
        if self.isolated_atoms_file is None and self.needs_isolated_atoms and "iso_atoms" in splits:
            return {"iso_atoms": splits["iso_atoms"]}
        return super().isolated_files()

    def test_files(self) -> dict[str, str | Path]:
        """The test splits: those named, else all that are there."""
        splits = list_splits(self.root)
        if self.test_file is None:
            absent = [name for name in OFFICIAL_TESTS if name not in splits]
            if absent:
                log.info("no %s in %s. %s", ", ".join(absent), self.root, WHERE_TO_GET)
            return {name: path for name, path in splits.items() if name.startswith("test_")}
        cut = self._beta_slices()
        return {name: self._find("test_dih" if name in cut else f) for name, f in name_files(self.test_file).items()}

    def read_test(self) -> dict[str, Frames]:
        """Read the test sets, by name; slices of test_dih come last where they were not asked for."""
        cut = self._beta_slices()
        sets = {n: beta_slice(f, cut[n]) if n in cut else f for n, f in super().read_test().items()}
        for name, frames in sets.items():
            if not len(frames):
                raise UserError(f"no frame of {frames.path} has dihedrals with beta = {BETAS[cut[name]]:g} degrees.")
        if "test_dih" in sets:
            slices = {beta: beta_slice(sets["test_dih"], beta) for beta in BETAS if beta not in sets}
            sets |= {beta: frames for beta, frames in slices.items() if len(frames)}
        return sets

    def _beta_slices(self) -> dict[str, str]:
        """Name -> slice of test_dih, for the test sets that are slices and not files."""
        splits = list_splits(self.root)
        wanted = {name: str(file) for name, file in name_files(self.test_file).items()}
        return {name: file for name, file in wanted.items() if file in BETAS and file not in splits}

    def _find(self, file: str | Path) -> str | Path:
        path, chosen = split_slice(file)
        if path.suffix or path.name != str(path):
            return file
        splits = list_splits(self.root)
        if path.name not in splits:
            there = f"there: {', '.join(splits)}" if splits else "there is no split at all"
            hint = nearest(path.name, splits) if splits else ""
            raise UserError(f"no split '{path.name}' in {self.root} ({there}).{hint} {WHERE_TO_GET}")
        return splits[path.name] if chosen is None else f"{splits[path.name]}{str(file)[len(path.name) :]}"


def find_root(root: str | Path | None) -> Path:
    """The folder of the splits: the one given, else $MACE_GAUNT_DATA/3bpa, else data/3bpa."""
    if root is None:
        return Path(os.environ.get("MACE_GAUNT_DATA", "data")).expanduser() / "3bpa"
    return bundled_path("3bpa_xtb") if str(root) == "bundled" else Path(root).expanduser()


def list_splits(root: Path) -> dict[str, Path]:
    """Name -> file of every split in a folder, by name; a plain file goes before a compressed one."""
    files = sorted(root.iterdir(), key=lambda path: path.suffix in COMPRESSION) if root.is_dir() else []
    splits: dict[str, Path] = {}
    for path in files:
        if bare_suffix(path) == ".xyz":
            splits.setdefault(bare_stem(path), path)
    return {name: splits[name] for name in sorted(splits, key=_by_numbers)}


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """Sort key that puts test_300K before test_1200K."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def beta_slice(frames: Frames, name: str) -> Frames:
    """The frames of a dihedral scan with one angle beta.

    Args:
        frames: The scan.
        name: One of BETAS.

    Returns:
        The frames with this angle in the info key `dihedrals` (alpha, beta, gamma in degrees), maybe none.
    """
    angles = [atoms.info.get("dihedrals", (np.nan, np.nan, np.nan))[1] for atoms in frames.atoms]
    near = [i for i, angle in enumerate(angles) if abs(angle % 360 - BETAS[name]) < 1]
    return frames.select(name, near)
