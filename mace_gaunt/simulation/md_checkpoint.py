"""Checkpoints of molecular dynamics: what a simulation needs to go on as if it had never been stopped.

A checkpoint is one npz file of numbers and of JSON text; nothing in it is executed. It holds the positions for which
the neighbour list was last built, too: a list made anew at other positions has the same pairs, but where the cell is
skewed its lattice vectors may differ in the last bit.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mace_gaunt.errors import UserError
from mace_gaunt.files import open_npz, write_whole

NAME = "checkpoint.npz"
FORMAT = 1


@dataclass
class Checkpoint:
    """The state after a step.

    Attributes:
        info: JSON values: step, settings, health, files, state of the random numbers, numerics.
        atoms: numbers, pbc, masses of the atoms, and the state that moves: positions, momenta, cell.
        integrator: See `integrators.pack_state`.
        results: The calculator's results.
        neighbors: Numbers, pbc, cell and positions for which the neighbour list was built; empty without a list.
    """

    info: dict[str, Any]
    atoms: dict[str, np.ndarray]
    integrator: dict[str, np.ndarray] = field(default_factory=dict)
    results: dict[str, np.ndarray] = field(default_factory=dict)
    neighbors: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.info["step"])

    def save(self, folder: Path) -> Path:
        """Write it under a temporary name, onto the disk, and rename it: there is always one whole checkpoint.

        Args:
            folder: Where to.

        Returns:
            The file.
        """
        groups = {"atoms": self.atoms, "integrator": self.integrator, "results": self.results}
        groups["neighbors"] = self.neighbors
        arrays = {f"{group}/{name}": array for group, part in groups.items() for name, array in part.items()}
        buffer = io.BytesIO()
        info = json.dumps({"format": FORMAT, "arrays": sorted(arrays), **self.info})
        np.savez(buffer, info=np.array(info), **arrays)  # type: ignore[arg-type]
        path = folder / NAME
        write_whole(path, buffer.getvalue())
        return path


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the checkpoint of a simulation.

    Args:
        folder: The folder of the simulation.

    Returns:
        The checkpoint; None when there is none.

    Raises:
        UserError: If it is damaged, or of a newer version.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    groups: dict[str, dict[str, np.ndarray]] = {"atoms": {}, "integrator": {}, "results": {}, "neighbors": {}}
    try:
        with open_npz(path) as content:
            info = json.loads(str(content["info"]))
            for name in content.files:
                group, slash, leaf = name.partition("/")
                if slash:
                    groups[group][leaf] = content[name]
            # Each array has a checksum in the archive; the list tells whether one was lost. Older files have none.
            lacking = set(info.pop("arrays", ())).difference(content.files)
            if lacking:
                raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
        if info["format"] != FORMAT:
            raise UserError(f"'{path}' has format {info['format']}; this version reads format {FORMAT}.")
        return Checkpoint(info, **groups)
    except UserError:
        raise
    except Exception as error:  # zipfile and numpy raise whatever they stumble over
        raise UserError(f"'{path}' is damaged ({error}): start anew with overwrite=true.") from error


def earlier_checkpoints(folder: Path) -> Iterator[Checkpoint]:
    """The checkpoints in the folder of a simulation or of its replicas.

    Args:
        folder: The `out` of a simulation.

    Yields:
        Those that are there.
    """
    for place in (folder, *sorted(folder.glob("replica_*"))):
        found = load_checkpoint(place)
        if found is not None:
            yield found
