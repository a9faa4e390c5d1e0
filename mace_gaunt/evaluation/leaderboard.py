"""Files for OC20's leaderboard, in the layout of fairchem-core 1.10 (scripts/make_submission_file.py).

Of each of the splits id, ood_ads, ood_cat and ood_both the arrays `SPLIT_ids` and

- s2ef: `SPLIT_energy` [n_frames] (eV), `SPLIT_forces` [n_free_atoms, 3] (eV/Å), those of the free atoms of all frames,
  and `SPLIT_chunk_idx` [n_frames - 1], where a frame begins in them; an id is "sid_fid";
- is2re: `SPLIT_energy` [n_systems] (eV), of the relaxed structures; an id is "sid";
- is2rs: `SPLIT_pos` [n_atoms, 3] (Å), all atoms of the relaxed structures, and `SPLIT_chunk_idx` [n_systems - 1].

Frames are ordered by id, as text, as fairchem orders them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.errors import UserError, nearest
from mace_gaunt.evaluation.metrics import Predictions
from mace_gaunt.evaluation.oc20_metrics import SPLITS, split_name

TASKS = ("s2ef", "is2re", "is2rs")


@dataclass
class SplitResults:
    """What is known of one split: an entry of each list per frame or system."""

    ids: list[str] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)


class Submission:
    """Collects predictions split by split and writes the file.

    Args:
        task: "s2ef", "is2re" or "is2rs".
        energy_reference: What the model's energies are; the leaderboard compares adsorption energies.

    Raises:
        UserError: If there is no such task, or energies are asked for and are no adsorption energies.
    """

    def __init__(self, task: str, energy_reference: str = "adsorption") -> None:
        if task not in TASKS:
            raise UserError(f"a submission is for s2ef, is2re or is2rs, not '{task}'.{nearest(str(task), TASKS)}")
        if task != "is2rs" and energy_reference != "adsorption":
            raise UserError(
                f"the leaderboard compares adsorption energies, and this model's are of the reference "
                f"{energy_reference}: train with data.energy_reference=adsorption."
            )
        self.task = task
        self.splits: dict[str, SplitResults] = {}

    def add_predictions(self, split: str, predictions: Predictions, frames: Iterable[AtomicData]) -> None:
        """Add what a model says about the frames of a split; of is2re the energy that it gives for the first structure.

        Args:
            split: Such as "test_ood_ads".
            predictions: From `predict_splits`.
            frames: What was predicted, in that order; their `sid`, and of s2ef `fid` and `fixed`, are read.

        Raises:
            UserError: If a frame has no identifier, or the split is none of the four.
        """
        ends = np.cumsum(predictions.n_atoms)
        for frame, energy, end in zip(frames, predictions.energy.tolist(), ends.tolist(), strict=True):
            sid, fid, free = int(frame.sid), int(frame.fid), ~frame.fixed.numpy()
            if self.task == "s2ef" and fid < 0:
                raise UserError(f"{split}: a frame of system {sid} has no fid, by which the leaderboard knows it.")
            name = f"{sid}_{fid}" if self.task == "s2ef" else str(sid)
            self._add(split, sid, name, energy, predictions.forces[end - len(free) : end][free])

    def add_system(self, split: str, sid: int, energy: float, positions: np.ndarray) -> None:
        """Add a relaxed system, for is2re and is2rs.

        Args:
            split: Such as "test_ood_ads".
            sid: The system.
            energy: Of the relaxed structure (eV).
            positions: Of all its atoms, shape [n_nodes, 3] (Å).

        Raises:
            UserError: If the system has no identifier, or the split is none of the four.
        """
        self._add(split, sid, str(sid), energy, positions)

    def _add(self, split: str, sid: int, name: str, energy: float, vectors: np.ndarray) -> None:
        official = split_name(split)
        if official is None:
            raise UserError(f"'{split}' is no split of the leaderboard: it takes test_{', test_'.join(SPLITS)}.")
        if sid < 0:
            raise UserError(f"{split}: a frame has no sid, by which the leaderboard knows it.")
        results = self.splits.setdefault(official, SplitResults())
        results.ids.append(name)
        results.energies.append(energy)
        results.vectors.append(np.asarray(vectors))

    def write(self, path: str | Path) -> Path:
        """Write the file.

        Args:
            path: The .npz file; its folder exists.

        Returns:
            The file as a path.

        Raises:
            UserError: If a split is missing, a frame is there twice, or a value is not finite; nothing is written.
        """
        missing = [f"test_{name}" for name in SPLITS if name not in self.splits]
        if missing:
            raise UserError(f"a submission holds all four splits; missing: {', '.join(missing)}.")
        arrays: dict[str, np.ndarray] = {}
        for split in SPLITS:
            arrays |= {f"{split}_{name}": array for name, array in self.arrays(split).items()}
        path = Path(path)
        if path.suffix != ".npz":
            raise UserError(f"leaderboard={path}: the name of the file ends in .npz.")
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
        return path

    def arrays(self, split: str) -> dict[str, np.ndarray]:
        """The arrays of one split, ordered by id."""
        results = self.splits[split]
        ids, order, counts = np.unique(np.array(results.ids), return_index=True, return_counts=True)
        if (counts > 1).any():
            raise UserError(f"{split}: {ids[counts > 1][0]} is there {counts.max()} times.")
        found = {"ids": ids}
        if self.task != "is2rs":
            found["energy"] = np.array(results.energies)[order].astype(np.float32)
        if self.task != "is2re":
            vectors = [results.vectors[index] for index in order]
            name, kind = ("forces", np.float32) if self.task == "s2ef" else ("pos", np.float64)
            found[name] = np.concatenate(vectors).astype(kind)
            # What numpy.split takes to part them again.
            found["chunk_idx"] = np.cumsum([len(rows) for rows in vectors])[:-1]
        for name, array in found.items():
            if name != "ids" and not np.isfinite(array).all():
                raise UserError(f"{split}: the {name} of a frame is not finite: the model cannot be submitted.")
        return found
