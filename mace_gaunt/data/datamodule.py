"""AtomsDataModule: any files of structures as training, validation and test sets."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ase
import lightning

from mace_gaunt.data.atomic_data import AtomicData, check_weight
from mace_gaunt.data.graphs import FORCES_MASKS, ForcesMask, GraphBuilder, mask_forces
from mace_gaunt.data.label_table import FileLabels, check_test_labels, count_labels, format_table, require
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.loader import BatchLoader, batch_loader
from mace_gaunt.data.readers import Frames, bare_stem, check_exists, read_frames, split_slice
from mace_gaunt.data.reference_energies import E0Policy, check_policy
from mace_gaunt.data.sampler import EpochBatchSampler, check_bounds
from mace_gaunt.data.splitting import Split
from mace_gaunt.data.statistics import Statistics, check_overrides
from mace_gaunt.data.store.manifest import describe
from mace_gaunt.data.store.reader import Store
from mace_gaunt.data.stored_set import StoredFrames, edges_of, is_store, split_stored, store_hash, stored_statistics
from mace_gaunt.data.training_set import TrainingFiles, TrainingSet, assemble
from mace_gaunt.errors import UserError, nearest

log = logging.getLogger(__name__)

Files = str | Path | Mapping[str, str | Path] | Sequence[str | Path]


class AtomsDataModule(lightning.LightningDataModule):
    """Training, validation and test frames from files or stores, their statistics, and their loaders.

    A file is named by its path, with a Python slice where wanted ("train.xyz[:400]"); several by a list, or by
    {name: file}. One-atom frames that see no neighbour and have an energy are isolated atoms, with or without a
    `config_type`: they give E0s and are not trained on. Files are read, and their neighbour lists built, once; a store
    of `mace-gaunt data prepare` has both, and its frames are read from disk when they are needed.

    Attributes (after `setup`; each is loaded when first asked for):
        statistics: Elements, E0s, neighbours, scale and shift of the training frames.
        train_frames: Training frames.
        valid_frames: Validation frames.
        test_frames: Name of the test set -> frames. A file without forces, or without energies, is legal here.
        label_report: Table of the labels found in the files read so far.
        file_hashes: Path -> sha256 of the files read so far.
    """

    stored_fields: tuple[str, ...] = ()
    """What the frames of stores have beside the fields of `FIELDS`."""

    def __init__(
        self,
        r_max: float,
        train_file: Files | None = None,
        valid_file: Files | None = None,
        test_file: Files | None = None,
        valid_fraction: float = 0.1,
        valid_size: int | None = None,
        batch_size: int = 5,
        valid_batch_size: int | None = None,
        max_edges_per_batch: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        E0s: E0Policy = "isolated",
        isolated_atoms_file: Files | None = None,
        energy_key: str | None = "auto",
        forces_key: str | None = "auto",
        stress_key: str | None = "auto",
        config_type_weights: Mapping[str, float] | None = None,
        require_forces: bool = True,
        cache_dir: str | Path | None = None,
        statistics: Mapping[str, Any] | None = None,
        max_train_frames: int | None = None,
        forces_mask: ForcesMask = "all",
    ) -> None:
        """Keep the settings; no file is touched.

        Args:
            r_max: Cutoff radius (Å).
            train_file: Training set.
            valid_file: Validation set; None splits it off the training set.
            test_file: Test sets, each evaluated on its own.
            valid_fraction: Part of the training set that is split off, above 0 and below 1.
            valid_size: Number of frames instead of valid_fraction.
            batch_size: Frames per training batch.
            valid_batch_size: Frames per validation batch; None is batch_size.
            max_edges_per_batch: Bound on the edges of a batch (a pair of neighbours is two), instead of both sizes.
            num_workers: Processes that prepare batches ahead; frames in memory need none (0.7 ms for five molecules).
            seed: Of the split and of the order of frames.
            E0s: "isolated", "regress", "zero" or {symbol: eV}.
            isolated_atoms_file: Isolated atoms with energies, beside those in the training and validation files.
            energy_key: Name of the total energy in the files; "auto" and None as in `LabelKeys`.
            forces_key: Name of the forces.
            stress_key: Name of the stress.
            config_type_weights: Weight in the loss by config_type ("Default" where a frame has none).
            require_forces: Stop when the training or validation file has no forces.
            cache_dir: Folder to keep statistics in, by the hash of all they depend on; None keeps none.
            statistics: Values to use instead of computed ones, by the names of `Statistics`.
            max_train_frames: Train on a random subset of this size, the same for the same seed.
            forces_mask: "free" leaves the forces of fixed atoms out of loss and metrics, "all" counts them.

        Raises:
            UserError: If a setting is out of range.
        """
        super().__init__()
        if not r_max > 0:
            raise UserError(f"r_max is a positive length in Å, not {r_max}.")
        for size in (batch_size, batch_size if valid_batch_size is None else valid_batch_size):
            check_bounds((), size, max_edges_per_batch)
        if num_workers < 0:
            raise UserError(f"num_workers is a number of processes, 0 for none, not {num_workers}.")
        self.r_max = r_max
        self.train_file, self.valid_file, self.test_file = train_file, valid_file, test_file
        self.split = Split(valid_fraction, valid_size, max_train_frames, seed)
        self.batch_size, self.max_edges_per_batch = batch_size, max_edges_per_batch
        self.valid_batch_size = batch_size if valid_batch_size is None else valid_batch_size
        self.num_workers, self.seed, self.cache_dir = num_workers, seed, cache_dir
        self.E0s = check_policy(E0s)
        self.isolated_atoms_file = isolated_atoms_file
        self.keys = LabelKeys(energy_key, forces_key, stress_key)
        weights = dict(config_type_weights or {})
        self.config_type_weights = {n: check_weight(w, f"config_type_weights.{n}") for n, w in weights.items()}
        self.require_forces = require_forces
        if forces_mask not in FORCES_MASKS:
            raise UserError(f"forces_mask={forces_mask} is not possible.{nearest(str(forces_mask), FORCES_MASKS)}")
        self.forces_mask = forces_mask
        self.overrides = check_overrides(statistics)
        self.file_hashes: dict[str, str] = {}
        self._graphs = GraphBuilder(r_max, self.keys, self.config_type_weights, self.finish_frame, self.label_settings)
        self._labels: dict[str, FileLabels] = {}
        self._training: TrainingSet | None = None
        self._test: dict[str, Sequence[AtomicData]] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read the files of a stage; a second call does nothing.

        Args:
            stage: "fit" or "validate" reads the training and validation sets (and looks whether the test files are
                there), "test" or "predict" the test sets, None all that are named.

        Raises:
            UserError: If a file is missing or unreadable, a label is missing, misspelt or not finite, an element is
                unknown, or E0s cannot be determined.
        """
        if stage in ("fit", "validate") or (stage is None and self.train_file is not None):
            for file in self.test_files().values():
                if not is_store(file):
                    check_exists(split_slice(file)[0])
            self._fitted()
        if stage in ("test", "predict", None):
            _ = self.test_frames

    @property
    def statistics(self) -> Statistics:
        if self._training is None and self.overrides.keys() == Statistics.__dataclass_fields__.keys():
            return Statistics(**self.overrides)
        return self._fitted().statistics

    @property
    def train_frames(self) -> Sequence[AtomicData]:
        return self._fitted().train

    @property
    def valid_frames(self) -> Sequence[AtomicData]:
        return self._fitted().valid

    @property
    def test_frames(self) -> dict[str, Sequence[AtomicData]]:
        if self._test is None:
            numbers = self.overrides.get("atomic_numbers") or self.statistics.atomic_numbers
            self._test = {name: self._graphs.build(f, numbers) for name, f in self.read_test().items()}
            stored = {name: file for name, file in self.test_files().items() if is_store(file)}
            self._test |= {name: self.open_store(file, numbers) for name, file in stored.items()}
        return self._test

    @property
    def label_report(self) -> str:
        return format_table(list(self._labels.values()))

    def train_dataloader(self) -> BatchLoader:
        loader = self._loader(self.train_frames, self.batch_size, shuffle=True)
        if self.trainer is not None:
            # On resume Lightning starts to iterate before it tells the sampler the epoch.
            epochs_done = self.trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
            loader.batch_sampler.set_epoch(epochs_done)  # type: ignore[union-attr]
        return loader

    def val_dataloader(self) -> BatchLoader:
        return self._loader(self.valid_frames, self.valid_batch_size, shuffle=False)

    def finish_frame(self, atoms: ase.Atoms, graph: AtomicData) -> None:
        """Change the labels of a frame as the data set has it; data sets with rules of their own extend this.

        Args:
            atoms: The structure.
            graph: Its graph, changed in place.
        """
        mask_forces(graph, self.forces_mask)

    @property
    def label_settings(self) -> dict[str, str]:
        """The settings that `finish_frame` depends on, by name: statistics are cached by them, among others."""
        return {"forces_mask": self.forces_mask}

    def finish_stored(self, graph: AtomicData) -> None:
        """Change the labels of a frame of a store as the data set has it.

        Args:
            graph: Changed in place.
        """
        mask_forces(graph, self.forces_mask)

    def open_store(self, path: str | Path, atomic_numbers: Sequence[int] | None = None) -> StoredFrames:
        """The frames of a store.

        Args:
            path: Its folder, maybe with a slice as "store[:1000]".
            atomic_numbers: The elements of the model, sorted; None takes those of the store.

        Raises:
            UserError: If it is damaged, or made for another cutoff, or the slice selects nothing.
        """
        folder, chosen = split_slice(path)
        store = Store(folder, atomic_numbers, extra=self.stored_fields)
        made_for = store.manifest.settings.r_max
        if made_for != self.r_max:
            raise UserError(
                f"{path} has neighbours within {made_for:g} Å, the model looks {self.r_max:g} Å far: prepare it again "
                f"with r_max={self.r_max:g}, or set r_max={made_for:g}."
            )
        self.file_hashes[str(path)] = store_hash(path)
        return StoredFrames(store, self.finish_stored).part(chosen)

    def resolve(self, files: Files | None) -> dict[str, str | Path]:
        """Name -> file of what the user wrote; a data set with names of its own overrides this.

        Args:
            files: A file, several, {name: file}, or None.

        Returns:
            Names (those of the files, without suffixes, unless given) and paths, slices included.

        Raises:
            UserError: If two files have one name.
        """
        return name_files(files)

    @property
    def needs_isolated_atoms(self) -> bool:
        """Whether the E0s come from isolated atoms."""
        return self.E0s == "isolated" and "E0s" not in self.overrides

    def isolated_files(self) -> dict[str, str | Path]:
        """Name -> file of isolated atoms, where E0s come from them."""
        return self.resolve(self.isolated_atoms_file) if self.needs_isolated_atoms else {}

    def test_files(self) -> dict[str, str | Path]:
        """Name -> file of the test sets."""
        return self.resolve(self.test_file)

    def read_test(self) -> dict[str, Frames]:
        """Read the test sets that are no stores, by name."""
        sets = {name: self._read(file, ()) for name, file in self.test_files().items() if not is_store(file)}
        for name, frames in sets.items():
            if self.needs_labels(name):
                check_test_labels(self._labels[frames.name], self.keys)
        return sets

    def needs_labels(self, name: str) -> bool:
        """Whether a test set has to have energies or forces; data sets with sets for prediction alone override this."""
        return True

    def _loader(self, frames: Sequence[AtomicData], batch_size: int, shuffle: bool) -> BatchLoader:
        batches = EpochBatchSampler(edges_of(frames), batch_size, self.max_edges_per_batch, self.seed, shuffle)
        return batch_loader(frames, batches, self.num_workers)

    def _read(self, file: str | Path, required: Iterable[str]) -> Frames:
        """Read a file, note its labels and checksum, and stop when a label that is required is missing."""
        frames = read_frames(file)
        self.file_hashes[str(frames.path)] = frames.sha256
        self._labels[frames.name] = count_labels(frames, self.keys)
        require(self._labels[frames.name], self.keys, required)
        return frames

    def _fitted(self) -> TrainingSet:
        """The training set, loaded on the first call."""
        if self._training is None:
            if self.train_file is None:
                raise UserError("there is no training set: give train_file.")
            needed = ("energy", "forces") if self.require_forces else ("energy",)
            stores = [file for file in self.resolve(self.train_file).values() if is_store(file)]
            if stores:
                self._training = self._stored_set(stores)
                return self._training
            files = TrainingFiles(
                train=[self._read(file, needed) for file in self.resolve(self.train_file).values()],
                valid=[self._read(file, needed) for file in self.resolve(self.valid_file).values()],
                isolated=[self._read(file, ("energy",)) for file in self.isolated_files().values()],
            )
            log.info("labels found:\n%s", self.label_report)
            found = assemble(files, self._graphs, self.split, self.E0s, self.overrides, self.cache_dir)
            log.info("%d training and %d validation frames; %s", len(found.train), len(found.valid), found.statistics)
            self._training = found
        return self._training

    def _stored_set(self, stores: Sequence[str | Path]) -> TrainingSet:
        """The training set of a store."""
        if len(stores) + len(self.resolve(self.train_file)) > 2:
            raise UserError("one store is trained on alone: give all files to one `mace-gaunt data prepare`.")
        train = self.open_store(stores[0])
        others = list(self.resolve(self.valid_file).values())
        if len(others) > 1 or not all(map(is_store, others)):
            raise UserError("a training on a store is validated on one store, or on frames split off the same.")
        further = self.open_store(others[0]).store.atomic_numbers if others else []
        manifest = train.store.manifest
        statistics = stored_statistics(manifest, further, self.E0s, self.forces_mask, self.overrides)
        train = self.open_store(stores[0], statistics.atomic_numbers).without_isolated_atoms()
        if others:
            valid = self.open_store(others[0], statistics.atomic_numbers).without_isolated_atoms()
            if self.split.max_train_frames is not None:
                train = train.take(self.split.choose_limited(len(train)))
        else:
            train, valid = split_stored(train, self.split)
        log.info("training on a store:\n%s\n%s", describe(manifest), statistics)
        return TrainingSet(statistics, train, valid)


def name_files(files: Files | None) -> dict[str, str | Path]:
    """Name -> file of what a user may write: a file, several, {name: file}, or None.

    Raises:
        UserError: If two files have one name, or the value is none of these.
    """
    if files is None:
        return {}
    listed = [*files.values()] if isinstance(files, Mapping) else [files] if isinstance(files, str | Path) else files
    if not isinstance(listed, Sequence) or not all(isinstance(file, str | Path) and str(file) for file in listed):
        raise UserError(f"expected a file, a list of files or {{name: file}}, not {files!r}.")
    if isinstance(files, Mapping):
        return {str(name): file for name, file in files.items()}
    named: dict[str, str | Path] = {}
    for file in listed:
        path, chosen = split_slice(file)
        name = bare_stem(path) if chosen is None else bare_stem(path) + str(file)[str(file).rindex("[") :]
        if name in named:
            raise UserError(f"two files are called '{name}': {named[name]} and {file}. Name them: {{NAME: FILE, ...}}.")
        named[name] = file
    return named
