"""Files for OC20's leaderboard, in the layout of fairchem-core 1.10 (scripts/make_submission_file.py).

Of each of the splits id, ood_ads, ood_cat and ood_both the arrays `SPLIT_ids` and

- s2ef: `SPLIT_energy` [n_frames] (eV), `SPLIT_forces` [n_free_atoms, 3] (eV/Å), those of the free atoms of all frames,
  and `SPLIT_chunk_idx` [n_frames - 1], where a frame begins in them; an id is "sid_fid";
- is2re: `SPLIT_energy` [n_systems] (eV), of the relaxed structures; an id is "sid";
- is2rs: `SPLIT_pos` [n_atoms, 3] (Å), all atoms of the relaxed structures, and `SPLIT_chunk_idx` [n_systems - 1].

Frames are ordered by id, as text, as fairchem orders them.
"""

import math
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from mace_gaunt.errors import UserError, nearest
from mace_gaunt.evaluation.metrics import Predictions
from mace_gaunt.evaluation.oc20_metrics import SPLITS, split_name
from mace_gaunt.evaluation.streams import Spool, Streamed, write_npz

TASKS = ("s2ef", "is2re", "is2rs")
VECTORS = {"s2ef": ("forces", np.float32), "is2rs": ("pos", np.float64)}


class SplitResults:
    """What is known of one split: an entry of each array per frame or system; vectors lie on disk.

    Args:
        folder: Where the vectors are kept meanwhile.
        kind: Type of their numbers.
    """

    def __init__(self, folder: str | Path, kind: type) -> None:
        self.sids, self.fids, self.energies, self.lengths = array("q"), array("q"), array("d"), array("q")
        self.vectors = Spool(folder, kind, (3,))

    def ids(self, task: str) -> np.ndarray:
        """The identifiers as text, shape [n_frames]."""
        sids = np.array(self.sids, dtype=np.int64).astype(str)
        if task != "s2ef":
            return sids
        return np.char.add(np.char.add(sids, "_"), np.array(self.fids, dtype=np.int64).astype(str))

    def in_order(self, order: np.ndarray) -> Iterator[np.ndarray]:
        """The vectors of frame after frame.

        Args:
            order: Which frames, shape [n].
        """
        starts = np.cumsum([0, *self.lengths])
        for index in order.tolist():
            yield self.vectors.read(int(starts[index]), int(starts[index + 1]))


class Submission:
    """Collects predictions split by split and writes the file.

    Args:
        task: "s2ef", "is2re" or "is2rs".
        energy_reference: What the model's energies are; the leaderboard compares adsorption energies.
        folder: Where vectors are kept until the file is written; the system's folder for such files by default.

    Raises:
        UserError: If there is no such task, or energies are asked for and are no adsorption energies.
    """

    def __init__(self, task: str, energy_reference: str = "adsorption", folder: str | Path | None = None) -> None:
        if task not in TASKS:
            raise UserError(f"a submission is for s2ef, is2re or is2rs, not '{task}'.{nearest(str(task), TASKS)}")
        if task != "is2rs" and energy_reference != "adsorption":
            raise UserError(
                f"the leaderboard compares adsorption energies, and this model's are of the reference "
                f"{energy_reference}: train with data.energy_reference=adsorption."
            )
        self.task = task
        self.folder = tempfile.gettempdir() if folder is None else folder
        self.splits: dict[str, SplitResults] = {}
        self.not_finite: str | None = None

    def add_predictions(self, split: str, part: Predictions) -> None:
        """Add what a model says about frames of a split; of is2re the energy that it gives for the first structure.

        Args:
            split: Such as "test_ood_ads".
            part: Some of its frames, with `sid` and, of s2ef, `fid`.

        Raises:
            UserError: If a frame has no identifier, or the split is none of the four.
        """
        ends = np.cumsum(part.n_atoms)
        frames = zip(part.sid.tolist(), part.fid.tolist(), part.energy.tolist(), part.n_atoms, ends, strict=True)
        for sid, fid, energy, n_atoms, end in frames:
            self.check_names(split, sid, fid)
            nodes = slice(end - n_atoms, end)
            self._add(split, sid, fid, energy, part.forces[nodes][~part.fixed[nodes]])

    def check_names(self, split: str, sid: int, fid: int) -> None:
        """Refuse a frame that the leaderboard could not know.

        Args:
            split: Such as "test_ood_ads".
            sid: Its system, -1 where it has none.
            fid: Its step, -1 where it has none.

        Raises:
            UserError: If it has no sid, or of s2ef no fid.
        """
        if sid < 0:
            raise UserError(f"{split}: a frame has no sid, by which the leaderboard knows it.")
        if self.task == "s2ef" and fid < 0:
            raise UserError(f"{split}: a frame of system {sid} has no fid, by which the leaderboard knows it.")

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
        self.check_names(split, sid, -1)
        self._add(split, sid, -1, energy, positions)

    def _add(self, split: str, sid: int, fid: int, energy: float, vectors: np.ndarray) -> None:
        official = official_split(split)
        name, kind = VECTORS.get(self.task, ("", np.float64))
        if official not in self.splits:
            self.splits[official] = SplitResults(self.folder, kind)
        results = self.splits[official]
        results.sids.append(sid)
        results.fids.append(fid)
        results.energies.append(energy)
        results.lengths.append(len(vectors))
        if name:
            results.vectors.append(vectors)
        if not math.isfinite(energy) or (name and not np.isfinite(vectors).all()):
            self.not_finite = self.not_finite or f"{split}: the prediction for system {sid} is not finite"

    def write(self, path: str | Path) -> Path:
        """Write the file.

        Args:
            path: The .npz file; its folder is made.

        Returns:
            The file as a path.

        Raises:
            UserError: If a split is missing, a frame is there twice, or a value is not finite; nothing is written.
        """
        path = check_file(path)
        check_splits(self.splits)
        if self.not_finite:
            raise UserError(f"{self.not_finite}: the model cannot be submitted.")
        arrays = {f"{split}_{name}": found for split in SPLITS for name, found in self.arrays(split).items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_npz(path, arrays)

    def arrays(self, split: str) -> dict[str, np.ndarray | Streamed]:
        """The arrays of one split, ordered by id.

        Args:
            split: One of `SPLITS`.

        Raises:
            UserError: If a frame is there twice.
        """
        results = self.splits[split]
        ids, order, counts = np.unique(results.ids(self.task), return_index=True, return_counts=True)
        if (counts > 1).any():
            raise UserError(f"{split}: {ids[counts > 1][0]} is there {counts.max()} times.")
        found: dict[str, np.ndarray | Streamed] = {"ids": ids}
        if self.task != "is2rs":
            found["energy"] = np.array(results.energies)[order].astype(np.float32)
        if self.task != "is2re":
            vectors, lengths = results.vectors, np.array(results.lengths)[order]
            found[VECTORS[self.task][0]] = Streamed(vectors.dtype, (vectors.length, 3), results.in_order(order))
            # What numpy.split takes to part them again.
            found["chunk_idx"] = np.cumsum(lengths)[:-1]
        return found


def official_split(split: str) -> str:
    """The split of the leaderboard that a name stands for.

    Args:
        split: Such as "test_ood_ads" or "val_ood_ads".

    Raises:
        UserError: If it is none of the four.
    """
    official = split_name(split)
    if official is None:
        raise UserError(f"'{split}' is no split of the leaderboard: it takes test_{', test_'.join(SPLITS)}.")
    return official


def check_file(path: str | Path) -> Path:
    """The file of a submission.

    Args:
        path: What the user wrote.

    Raises:
        UserError: If its name does not end in .npz.
    """
    path = Path(path).expanduser()
    if path.suffix != ".npz":
        raise UserError(f"leaderboard={path}: the name of the file ends in .npz.")
    return path


def check_splits(splits: Iterable[str]) -> None:
    """Refuse splits that make no submission, before anything is computed.

    Args:
        splits: Their names.

    Raises:
        UserError: If one is none of the four, or one of the four is missing or there twice.
    """
    found = [official_split(split) for split in splits]
    twice = [name for name in SPLITS if found.count(name) > 1]
    if twice:
        raise UserError(f"a submission holds each split once; there are two of {', '.join(twice)}.")
    missing = [f"test_{name}" for name in SPLITS if name not in found]
    if missing:
        raise UserError(f"a submission holds all four splits; missing: {', '.join(missing)}.")
