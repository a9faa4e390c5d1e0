"""OC20 by the names of its splits: S2EF (energies and forces) and IS2RE (relaxed energies)."""

import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import ase
import numpy as np
import torch
from ase.data import chemical_symbols

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.datamodule import AtomsDataModule, Files, name_files
from mace_gaunt.data.labels import read_labels
from mace_gaunt.data.readers import Frames, split_slice, window
from mace_gaunt.data.reference_energies import E0Policy, given_energies
from mace_gaunt.data.sources.discovery import find_sources
from mace_gaunt.data.store.energies import (
    REFERENCES,
    check_values,
    common_reference,
    read_linear_reference,
    record_energies,
    told_reference,
)
from mace_gaunt.data.store.linear_sums import MAX_NUMBER
from mace_gaunt.data.stored_set import StoredFrames, is_store
from mace_gaunt.errors import UserError, nearest

log = logging.getLogger(__name__)

TASKS = ("s2ef", "is2re")
VALIDATION = ("val_id", "val_ood_ads", "val_ood_cat", "val_ood_both")
DEFAULT_VALID = "val_id"
TESTS = ("test_id", "test_ood_ads", "test_ood_cat", "test_ood_both")
TRAINING = {"s2ef": ("200K", "2M", "20M", "all", "md"), "is2re": ("10k", "100k", "all")}
# Where the released archives put a split, from the root; {size} is "200k" and {split} "val_id".
PLACES = {
    "train": ("{task}/{size}/train", "{task}_train_{size}", "train_{size}"),
    "other": ("{task}/all/{split}", "{task}_{split}", "{split}"),
}
INSIDE = ("", "data", "is2res_train_val_test_lmdbs/data")
SUFFIXES = ("", ".lmdb", ".aselmdb", ".extxyz", ".extxyz.xz", ".extxyz.gz", ".xyz", ".db")
WHERE_TO_GET = "The archives of https://opencatalystproject.org (OC20, S2EF and IS2RE), unpacked below this folder."
LINEAR_FILE = "oc20_linref.npz"
# More frames than this fill the memory of most machines; `data prepare` and a store do not.
MAX_FRAMES_IN_MEMORY = 100_000


class OC20DataModule(AtomsDataModule):
    """OC20 and sets of its layout.

    A split is a store of `mace-gaunt data prepare`, a file, or a folder of shards of any format that `data inspect`
    reads, from here or below `root`; a word such as `200K` or `val_id` is looked for where the archives have it.

    Attributes:
        task: "s2ef": energy and forces of every frame. "is2re": the energy of the relaxed structure, from the first
            one; no forces.
        energy_reference: What energies are: "adsorption" (total minus slab and gas, as published), "total", or "linear"
            (total, with the energies of a fit per element as E0s).
    """

    stored_fields = ("relaxed_energy",)

    def __init__(
        self,
        r_max: float,
        root: str | Path | None = None,
        task: Literal["s2ef", "is2re"] = "s2ef",
        train: str = "200K",
        valid: str | None = DEFAULT_VALID,
        test: Files | None = None,
        energy_reference: Literal["total", "adsorption", "linear"] = "adsorption",
        linear_reference: str | Path | None = None,
        train_file: Files | None = None,
        valid_file: Files | None = None,
        test_file: Files | None = None,
        E0s: E0Policy = "regress",
        forces_mask: Literal["all", "free"] = "free",
        **settings: Any,
    ) -> None:
        """Keep the settings; no split is touched.

        Args:
            r_max: Cutoff radius (Å).
            root: Folder of the splits; None is $MACE_GAUNT_DATA/oc20, or data/oc20 where that variable is not set.
            task: "s2ef" or "is2re".
            train: Split to train on: 200K, 2M, 20M, all or md; of is2re 10k, 100k or all.
            valid: Split to validate on; None splits it off the training set. With train_file give valid_file.
            test: Splits to test on; None is the four validation splits, as far as they are there.
            energy_reference: "total", "adsorption" or "linear".
            linear_reference: Of "linear": .npz file with the energy per element in `coeff`; None is oc20_linref.npz in
                root.
            train_file: Files instead of `train`.
            valid_file: Files instead of `valid`; with train_file alone it is split off.
            test_file: Files instead of `test`.
            E0s: As of `AtomsDataModule`; "linear" sets them itself. A small set seldom tells all elements apart:
                "zero" then.
            forces_mask: "free" leaves fixed atoms out of loss and metrics, as the leaderboard does.
            settings: The other settings of `AtomsDataModule`.

        Raises:
            UserError: If a setting is out of range.
        """
        _check("task", task, TASKS)
        _check("energy_reference", energy_reference, REFERENCES)
        self.root = find_root(root)
        self.task, self.energy_reference = task, energy_reference
        stored = isinstance(train_file, (str, Path)) and is_store(train_file)
        if energy_reference == "linear" and (linear_reference is not None or not stored):
            E0s = linear_energies(linear_reference or self.root / LINEAR_FILE)
        elif energy_reference != "linear" and linear_reference is not None:
            raise UserError("linear_reference is read with energy_reference=linear only.")
        if train_file is not None and valid_file is None and valid not in (None, DEFAULT_VALID):
            raise UserError(f"valid={valid} goes with train=; with train_file give valid_file={valid}.")
        valid = valid if train_file is None else None
        if task == "is2re":
            settings = {"require_forces": False, "forces_key": None} | settings
        super().__init__(
            r_max,
            train_file or train,
            valid_file or valid,
            test_file or test,
            E0s=E0s,
            forces_mask=forces_mask,
            **settings,
        )

    def resolve(self, files: Files | None) -> dict[str, str | Path]:
        """Name -> file or folder; a word without folder and suffix is a split.

        Raises:
            UserError: If there is no such split; names those that are there, and where to get them.
        """
        return {name: self._find(file) for name, file in name_files(files).items()}

    def test_files(self) -> dict[str, str | Path]:
        """The test splits: those named, else the validation splits that are there."""
        if self.test_file is not None:
            return super().test_files()
        return {name: place for name in VALIDATION if (place := find_split(self.root, self.task, name)) is not None}

    def needs_labels(self, name: str) -> bool:
        """Whether a test set has to have labels: those of the leaderboard were released without."""
        return name not in TESTS

    def finish_frame(self, atoms: ase.Atoms, graph: AtomicData) -> None:
        """Bring the energy to the reference, and take it from where the task has it.

        Raises:
            UserError: If a record cannot be brought to the reference.
        """
        super().finish_frame(atoms, graph)
        energies = record_energies(atoms, float(graph.energy), self.energy_reference)
        graph.energy[0] = energies.relaxed if self.task == "is2re" else energies.energy

    def open_store(self, path: str | Path, atomic_numbers: Sequence[int] | None = None) -> StoredFrames:
        """The frames of a store; see `AtomsDataModule`.

        Raises:
            UserError: If its energies are of another reference.
        """
        frames = super().open_store(path, atomic_numbers)
        reference = frames.store.manifest.settings.energy_reference
        if reference != self.energy_reference:
            raise UserError(
                f"{path} has energies of the reference {reference}, but energy_reference is {self.energy_reference}."
            )
        return frames

    @property
    def label_settings(self) -> dict[str, str]:
        """See `AtomsDataModule`."""
        return super().label_settings | {"task": self.task, "energy_reference": self.energy_reference}

    def finish_stored(self, graph: AtomicData) -> None:
        """Take the energy from where the task has it."""
        super().finish_stored(graph)
        relaxed = graph["relaxed_energy"]
        del graph["relaxed_energy"]
        if self.task == "is2re":
            graph.energy = relaxed
            graph.forces = torch.full_like(graph.forces, torch.nan)

    def _read(self, file: str | Path, required: Iterable[str]) -> Frames:
        path, chosen = split_slice(file)
        n_frames = len(range(sum(map(len, find_sources(path))))[slice(*window(chosen))])
        if n_frames > MAX_FRAMES_IN_MEMORY:
            # A store is made of whole files; a part of it is trained on as "FOLDER[:1000]".
            raise UserError(
                f"{file} has {n_frames} frames to read, too many to keep in memory. Make a store of it: mace-gaunt "
                f"data prepare path={path} out=FOLDER r_max={self.r_max:g} energy_reference={self.energy_reference}"
            )
        frames = super()._read(file, () if self.task == "is2re" else required)
        self._check_energies(frames, bool(tuple(required)))
        return frames

    def _check_energies(self, frames: Frames, required: bool) -> None:
        """Refuse energies that are not what they are said to be; tell their mean and spread.

        Raises:
            UserError: Names the file.
        """
        energies = []
        try:
            common_reference({told_reference(atoms) for atoms in frames.atoms}, self.energy_reference)
            for atoms in frames.atoms:
                found = record_energies(atoms, read_labels(atoms, self.keys).energy, self.energy_reference)
                energies.append(found.relaxed if self.task == "is2re" else found.energy)
            counts = np.array([np.bincount(atoms.numbers, minlength=MAX_NUMBER) for atoms in frames.atoms])
            check_values(np.array(energies), counts, self.energy_reference, None)
            if self.energy_reference == "linear" and isinstance(self.E0s, Mapping):
                # Of total energies of slabs of all sizes the spread says nothing; what the fit leaves does.
                numbers = np.flatnonzero(counts.any(axis=0)).tolist()
                fit = counts[:, numbers] @ np.array(given_energies(self.E0s, numbers))
                energies = (np.array(energies) - fit).tolist()
        except UserError as error:
            raise UserError(f"{frames.path}: {error}") from error
        known = [energy for energy in energies if math.isfinite(energy)]
        if self.task == "is2re" and required and not known:
            raise UserError(f"{frames.path} has no relaxed energies, which task=is2re learns.")
        if known:
            of = "minus the linear fit" if self.energy_reference == "linear" else self.energy_reference
            mean, spread = np.mean(known), np.std(known)
            log.info(
                "%s: energy (%s) mean %.4f eV, spread %.4f eV, %d frames", frames.name, of, mean, spread, len(known)
            )

    def _find(self, file: str | Path) -> str | Path:
        path, chosen = split_slice(file)
        if path.exists() or path.is_absolute():
            return file
        if path.suffix or path.name != str(path):
            return str(self.root / file) if (self.root / path).exists() else file
        place = find_split(self.root, self.task, path.name)
        if place is None:
            known = [*VALIDATION, *TESTS, *TRAINING[self.task]]
            there = [name for name in known if find_split(self.root, self.task, name) is not None]
            hint = nearest(path.name, known) if path.name not in known else ""
            raise UserError(
                f"no split '{path.name}' of {self.task} in {self.root} (there: {', '.join(there) or 'none'}).{hint} "
                f"{WHERE_TO_GET}"
            )
        return place if chosen is None else f"{place}{str(file)[len(path.name) :]}"


def find_root(root: str | Path | None) -> Path:
    """The folder of the splits: the one given, else $MACE_GAUNT_DATA/oc20, else data/oc20."""
    if root is None:
        return Path(os.environ.get("MACE_GAUNT_DATA", "data")).expanduser() / "oc20"
    return Path(root).expanduser()


def find_split(root: Path, task: str, split: str) -> Path | None:
    """A split where the released archives, or a user, may have put it.

    Args:
        root: Folder of the splits.
        task: "s2ef" or "is2re".
        split: Such as "val_id", "200K" or "train_200K".

    Returns:
        A file or folder, None when it is not there.
    """
    size = split.removeprefix("train_")
    kind = "train" if size in TRAINING[task] else "other"
    for inside in INSIDE:
        for place in PLACES[kind]:
            for word in dict.fromkeys((size, size.lower())):
                base = root / inside / place.format(task=task, size=word, split=split)
                for suffix in SUFFIXES:
                    found = base.with_name(base.name + suffix)
                    if found.exists():
                        return found
    return None


def linear_energies(path: str | Path) -> Mapping[str | int, float]:
    """Symbol -> energy (eV) of a fit per element.

    Raises:
        UserError: If the file is missing or unreadable.
    """
    return {chemical_symbols[number]: energy for number, energy in read_linear_reference(path).items()}


def _check(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{name}={value} is not possible.{nearest(str(value), known)}")
