"""What every format gives: its records in order, each a structure or the reason why it cannot be used."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ase


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be used.

    Attributes:
        path: Its file.
        index: Its position in the file, from 0.
        reason: What is wrong, with the key or class where there is one.
    """

    path: Path
    index: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}, record {self.index}: {self.reason}"


class Source(ABC):
    """A file of records, of one format.

    A record is an `ase.Atoms` with raw labels (forces of fixed atoms as they are in the file):

    - the results `energy` (eV) and `forces` (eV/Å) of an attached SinglePointCalculator, where the file has them;
    - tags, and a FixAtoms constraint for fixed atoms;
    - `info["sid"]` (int) and `info["fid"]` (int), where the file has them;
    - `info["energy_reference"]`: "total" or "adsorption", where the format or the file tells which the energy is;
    - `info["reference_energy"]` (eV), where the file has it: total energy minus it is the adsorption energy;
    - of IS2RE and IS2RS: `info["relaxed_energy"]` (eV) and `arrays["relaxed_positions"]` [n_nodes, 3] (Å), where the
      file has them; energy and forces are those of the first structure.

    Attributes:
        path: The file.
        format: Its name for users, such as "extxyz", "OCP LMDB", "aselmdb".
    """

    format: str

    def __init__(self, path: Path) -> None:
        """Look at the file as far as needed to know that it is one of this format.

        Args:
            path: The file.

        Raises:
            UserError: If it cannot be opened.
        """
        self.path = path

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the records come from: the first is `path`."""
        return (self.path,)

    @abstractmethod
    def __len__(self) -> int:
        """Number of records, bad ones included, counted without building them where the format allows."""

    @abstractmethod
    def read(self, start: int = 0, stop: int | None = None) -> Iterator[ase.Atoms | BadRecord]:
        """The records from `start` to before `stop` (None: to the end), in order.

        A bad record is given as such and the next ones follow; where nothing after it can be found (a file cut off in
        a compressed stream), it is the last.
        """
