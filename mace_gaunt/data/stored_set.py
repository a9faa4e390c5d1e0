"""Training on a store of `mace-gaunt data prepare`: frames are read when they are needed, whatever the set's size."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from mace_gaunt.data.atomic_data import AtomicData, symbols
from mace_gaunt.data.graphs import ForcesMask
from mace_gaunt.data.readers import split_slice
from mace_gaunt.data.reference_energies import E0Policy, check_policy, given_energies
from mace_gaunt.data.splitting import Split
from mace_gaunt.data.statistics import Statistics, override
from mace_gaunt.data.store.manifest import NAME, Manifest
from mace_gaunt.data.store.reader import Store
from mace_gaunt.errors import UserError

log = logging.getLogger(__name__)


def is_store(path: str | Path) -> bool:
    """Whether a path is the folder of a store, maybe with a slice."""
    return (split_slice(path)[0] / NAME).is_file()


def store_hash(path: str | Path) -> str:
    """sha256 of the manifest of a store, which holds the checksums of all its files; a slice does not matter."""
    return hashlib.sha256((split_slice(path)[0] / NAME).read_bytes()).hexdigest()


class StoredFrames(Sequence[AtomicData]):
    """The frames of a store, or some of them, each read when it is asked for.

    Attributes:
        store: The store.
        positions: Which of its frames, shape [n]; None for all.
    """

    def __init__(self, store: Store, finish: Callable[[AtomicData], None], positions: np.ndarray | None = None) -> None:
        """Read nothing.

        Args:
            store: The store.
            finish: Changes every frame in place when it has been read.
            positions: Which of its frames; None for all.
        """
        self.store, self.finish, self.positions = store, finish, positions

    def __len__(self) -> int:
        return len(self.store) if self.positions is None else len(self.positions)

    @overload
    def __getitem__(self, index: int) -> AtomicData: ...
    @overload
    def __getitem__(self, index: slice) -> "StoredFrames": ...
    def __getitem__(self, index: int | slice) -> "AtomicData | StoredFrames":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        frame = self.store[index if self.positions is None else int(self.positions[index])]
        self.finish(frame)
        return frame

    def part(self, chosen: slice | None) -> "StoredFrames":
        """The frames of a slice, or all.

        Raises:
            UserError: If it selects none.
        """
        found = self if chosen is None else self[chosen]
        if not len(found):
            raise UserError(f"the slice of {self.store.folder} selects no frame; it has {len(self)}.")
        return found

    def take(self, chosen: np.ndarray) -> "StoredFrames":
        """Some of the frames.

        Args:
            chosen: Their positions among these, shape [n].
        """
        return StoredFrames(self.store, self.finish, chosen if self.positions is None else self.positions[chosen])

    def without_isolated_atoms(self) -> "StoredFrames":
        """The frames that are trained or validated on: isolated atoms with an energy give E0s instead.

        Raises:
            UserError: If no frame is left.
        """
        if not self.store.manifest.sums.isolated:
            return self
        alone = (self.n_atoms == 1) & (self.n_edges == 0)
        bound = self.take(np.flatnonzero(~(alone & np.isfinite(self._column(self.store.column("energy"))))))
        if not len(bound):
            raise UserError(f"no frames to train or validate on: {self.store.folder} gives isolated atoms only.")
        return bound

    @property
    def n_edges(self) -> np.ndarray:
        """Edges of each frame within the store's cut-off, two for a pair of neighbours, shape [len(self)]."""
        return 2 * self._column(self.store.n_pairs).astype(np.int64)

    @property
    def n_atoms(self) -> np.ndarray:
        """Atoms of each frame, shape [len(self)]."""
        return self._column(self.store.n_atoms)

    def _column(self, values: np.ndarray) -> np.ndarray:
        return values if self.positions is None else values[self.positions]


def edges_of(frames: Sequence[AtomicData]) -> np.ndarray:
    """Edges of each frame, shape [n_frames], without reading stored frames."""
    if isinstance(frames, StoredFrames):
        return frames.n_edges
    return np.array([frame.num_edges for frame in frames], dtype=np.int64)


def atoms_of(frames: Sequence[AtomicData]) -> np.ndarray:
    """Atoms of each frame, shape [n_frames], without reading stored frames."""
    if isinstance(frames, StoredFrames):
        return frames.n_atoms
    return np.array([frame.num_nodes for frame in frames], dtype=np.int64)


def split_stored(frames: StoredFrames, split: Split) -> tuple[StoredFrames, StoredFrames]:
    """Training and validation frames, as `Split.apply` chooses them.

    Raises:
        UserError: If the validation frames leave nothing to train on.
    """
    train, valid = split.choose(len(frames))
    return frames.take(train), frames.take(valid)


def stored_statistics(
    manifest: Manifest,
    further: Sequence[int],
    E0s: E0Policy,
    forces_mask: ForcesMask,
    given: Mapping[str, Any] | None = None,
) -> Statistics:
    """Statistics of a store from the sums in its manifest; no frame is read.

    Args:
        manifest: Of the training set.
        further: Elements of other sets.
        E0s: Policy of the isolated-atom energies; "regress" is the fit of the store where its energies have one.
        forces_mask: "free" leaves fixed atoms out of the scale.
        given: Statistics given by the user.

    Returns:
        The statistics; of the whole store, also where validation frames are split off it or a slice is trained on.

    Raises:
        UserError: If an element has no energy.
    """
    sums = manifest.sums
    unseen = sorted(set(further) - set(sums.atomic_numbers))
    if unseen:
        log.warning("only validation frames contain %s: the model cannot learn about it", symbols(unseen))

    def compute() -> Statistics:
        energies = _energies(manifest, unseen, E0s, given or {})
        statistics = sums.statistics([energies[number] for number in sums.atomic_numbers], forces_mask)
        numbers = sorted(energies)
        return replace(statistics, atomic_numbers=numbers, E0s=[energies[number] for number in numbers])

    return override(compute, given)


def _energies(
    manifest: Manifest, unseen: Sequence[int], policy: E0Policy, given: Mapping[str, Any]
) -> dict[int, float]:
    """Atomic number -> E0 (eV), as given or by the policy."""
    numbers = manifest.sums.atomic_numbers
    every = [int(number) for number in given.get("atomic_numbers") or sorted({*numbers, *unseen})]
    unnamed = sorted(set(numbers) - set(every))
    if unnamed:
        raise UserError(f"atomic_numbers leaves out {symbols(unnamed)}, which frames of the store have.")
    if "E0s" in given:
        if len(given["E0s"]) != len(every):
            raise UserError(f"{len(given['E0s'])} E0s for {len(every)} elements ({symbols(every)}).")
        return dict(zip(every, map(float, given["E0s"]), strict=True))
    if isinstance(policy, Mapping):
        return dict(zip(every, given_energies(policy, every), strict=True))
    if check_policy(policy) == "zero":
        return dict.fromkeys(every, 0.0)
    if policy == "isolated":
        energies = manifest.sums.isolated_energies()
    else:
        energies = dict(zip(numbers, manifest.E0s or manifest.sums.regress(), strict=True))
    lacking = [number for number in every if number not in energies]
    if lacking:
        raise UserError(f"E0s={policy} gives no energy for {symbols(lacking)}. Give E0s={{symbol: eV}}.")
    return {number: energies[number] for number in every}
