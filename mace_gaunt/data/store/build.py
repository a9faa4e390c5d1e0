"""One shard: a function of its segments and the settings alone, so that it can be made anywhere and any time."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch

from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.data.sources.contract import BadRecord
from mace_gaunt.data.store.energies import check_values, record_energies
from mace_gaunt.data.store.linear_sums import MAX_NUMBER
from mace_gaunt.data.store.manifest import BadEntry
from mace_gaunt.data.store.settings import Settings
from mace_gaunt.data.store.shard import ShardContent, ShardFiles
from mace_gaunt.data.store.sums import Sums
from mace_gaunt.data.store.survey import Segment, reopen, said_before
from mace_gaunt.errors import UserError
from mace_gaunt.files import write_whole


@dataclass(frozen=True)
class Task:
    """A shard to make.

    Attributes:
        folder: The store.
        number: Of the shard.
        segments: The records of the shard.
        settings: Of the store.
        skip: Whether bad records are left out and counted; else the first one stops.
    """

    folder: Path
    number: int
    segments: tuple[Segment, ...]
    settings: Settings
    skip: bool = False

    @property
    def n_records(self) -> int:
        """Number of records, bad ones included."""
        return sum(segment.stop - segment.start for segment in self.segments)


@dataclass
class Gathered:
    """The frames of a shard in memory.

    Attributes:
        content: The records.
        sums: Over the frames.
        bad: Records left out.
    """

    content: ShardContent = field(default_factory=ShardContent)
    sums: Sums = field(default_factory=Sums)
    bad: list[BadEntry] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """A shard that is there; the file NNNNN.json says so until the store is complete.

    Attributes:
        files: Its files.
        sums: Over its frames.
        bad: Records left out.
    """

    files: ShardFiles
    sums: Sums
    bad: list[BadEntry]

    def write(self, folder: Path) -> None:
        """Write it in one piece."""
        values = {"files": self.files.to_json(), "sums": self.sums.to_json(), "bad": [asdict(bad) for bad in self.bad]}
        write_whole(part_path(folder, self.files.number), json.dumps(values))

    @classmethod
    def read(cls, folder: Path, number: int) -> "Part | None":
        """What is there of a shard, None when it has to be made (again)."""
        try:
            values = json.loads(part_path(folder, number).read_text())
            files = ShardFiles.from_json(values["files"])
            part = cls(files, Sums.from_json(values["sums"]), [BadEntry(**bad) for bad in values["bad"]])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return part if files.number == number and files.intact(folder) else None


def part_path(folder: Path, number: int) -> Path:
    """The file that says that a shard is there."""
    return folder / f"{number:05d}.json"


def build(task: Task) -> Part:
    """Make a shard and write it.

    Args:
        task: Which.

    Returns:
        What was written.

    Raises:
        UserError: If a record is bad and not to be skipped, energies contradict their reference, or nothing can be
            written.
    """
    gathered = gather(task)
    try:
        part = Part(gathered.content.write(task.folder, task.number), gathered.sums, gathered.bad)
        part.write(task.folder)
    except OSError as error:
        raise UserError(f"cannot write shard {task.number} to {task.folder}: {error.strerror or error}") from error
    return part


def gather(task: Task) -> Gathered:
    """Read the records of a shard and build their graphs.

    Args:
        task: Which.

    Returns:
        The frames, in memory.

    Raises:
        UserError: See `build`.
    """
    gathered = Gathered()
    energies, counts = [], []
    with said_before():
        for segment in task.segments:
            for index, frame, extra in _frames(segment, task, gathered.bad):
                gathered.content.add(frame, extra, segment.source, index)
                gathered.sums.add(frame, extra["relaxed_energy"])
                energies.append(frame.energy.item())
                counts.append(np.bincount(frame.atomic_numbers.numpy(), minlength=MAX_NUMBER))
    settings = task.settings
    try:
        by_element = np.array(counts).reshape(-1, MAX_NUMBER)
        check_values(np.array(energies), by_element, settings.energy_reference, settings.linear_reference)
    except UserError as error:
        raise UserError(f"{task.segments[0].path}: {error}") from error
    return gathered


def make_frame(atoms: ase.Atoms, index: int, settings: Settings) -> tuple[AtomicData, dict[str, Any]]:
    """The graph of a record, its energies in the reference of the store.

    Args:
        atoms: The record.
        index: Its position in its source.
        settings: Of the store.

    Returns:
        frame: With node_types that mean nothing.
        extra: Values of `record.EXTRA_FIELDS`.

    Raises:
        UserError: If it cannot be used.
    """
    elements = range(1, MAX_NUMBER)
    frame = AtomicData.from_atoms(atoms, settings.r_max, elements, settings.keys, frame_index=index)
    energies = record_energies(atoms, frame.energy.item(), settings.energy_reference)
    frame.energy = torch.tensor([energies.energy], dtype=torch.float64)
    extra: dict[str, Any] = {"relaxed_energy": energies.relaxed, "reference_energy": energies.reference}
    if "relaxed_positions" in atoms.arrays:
        extra["relaxed_positions"] = relaxed = np.asarray(atoms.arrays["relaxed_positions"], dtype=np.float64)
        if relaxed.shape != (len(atoms), 3) or not np.isfinite(relaxed).all():
            raise UserError(f"relaxed_positions has shape {relaxed.shape} or values that are not finite.")
    return frame, extra


def _frames(segment: Segment, task: Task, bad: list[BadEntry]) -> Iterator[tuple[int, AtomicData, dict[str, Any]]]:
    """The good records of a segment with their positions; the bad ones are noted."""
    index = segment.start
    for record in reopen(Path(segment.path)).read(segment.start, segment.stop):
        try:
            if isinstance(record, BadRecord):
                raise UserError(record.reason)
            frame, extra = make_frame(record, index, task.settings)
        except UserError as error:
            if not task.skip:
                told = BadRecord(Path(segment.path), index, str(error).rstrip("."))
                raise UserError(f"{told}. on_bad_frame=skip leaves such records out and counts them.") from error
            bad.append(BadEntry(segment.source, index, str(error)))
        else:
            yield index, frame, extra
        index += 1
    if index != segment.stop:
        raise UserError(f"{segment.path} gives {index} records, but had {segment.stop} when they were counted.")
