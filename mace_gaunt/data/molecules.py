"""Benchmarks of single molecules laid out as 3BPA is: a folder in which every NAME.xyz is a split."""

from pathlib import Path

from mace_gaunt.data.datamodule import Files, name_files
from mace_gaunt.data.readers import split_slice
from mace_gaunt.data.threebpa import ThreeBPADataModule, list_splits
from mace_gaunt.errors import UserError, nearest

HALF = "_dev"
"""Ending of a random half of a test set."""


class MoleculeDataModule(ThreeBPADataModule):
    """AcAc, rMD17 and the like, by the names of their splits.

    Where a test set is there only as NAME_dev, a random half of it, that is taken, and called so.
    """

    def test_files(self) -> dict[str, str | Path]:
        """The test splits."""
        return {self._there(name): self._find(self._there(str(file))) for name, file in self._wanted().items()}

    def _wanted(self) -> dict[str, str | Path]:
        everything: Files = [name for name in list_splits(self.root) if name.startswith("test_")]
        return name_files(everything if self.test_file is None else self.test_file)

    def _there(self, name: str) -> str:
        splits = list_splits(self.root)
        return f"{name}{HALF}" if name not in splits and f"{name}{HALF}" in splits else name

    def _find(self, file: str | Path) -> str | Path:
        path, _ = split_slice(file)
        if path.suffix or path.name != str(path) or path.name in list_splits(self.root):
            return super()._find(file)
        splits = list_splits(self.root)
        there = f"there: {', '.join(splits)}.{nearest(path.name, splits)}" if splits else "there is no split at all."
        raise UserError(f"no split '{path.name}' in {self.root}: {there} data/README.md says where to get the files.")
