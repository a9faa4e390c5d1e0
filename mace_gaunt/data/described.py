"""Records turned into descriptors, with where each came from."""

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np

from mace_gaunt.data.descriptors import Descriptor
from mace_gaunt.data.inspection.reservoir import Reservoir
from mace_gaunt.data.records import RecordFile
from mace_gaunt.data.sources.contract import BadRecord
from mace_gaunt.errors import UserError


@dataclass(frozen=True)
class DescribedFrames:
    """Descriptors of frames.

    Attributes:
        features: Shape [n_frames, width].
        origins: Number of the file and position in it, of each frame.
        seen: Number of records that were read.
        bad: Records that were left out.
    """

    features: np.ndarray
    origins: list[tuple[int, int]]
    seen: int
    bad: list[str]

    def __len__(self) -> int:
        return len(self.origins)

    def of_file(self, number: int) -> np.ndarray:
        """Descriptors of the frames of one file, shape [n, width]."""
        return self.features[[file == number for file, _ in self.origins]]


def describe_records(
    files: Sequence[RecordFile],
    describe: Descriptor,
    max_frames: int | None = None,
    seed: int = 0,
    on_bad_frame: str = "stop",
) -> DescribedFrames:
    """Describe all records of some files, or a random part of them.

    Args:
        files: The files.
        describe: What turns a frame into numbers.
        max_frames: Describe at most so many, drawn at random from all; None describes all.
        seed: Of the drawing.
        on_bad_frame: "stop" at a record that cannot be used, or "skip" it and say so in the result.

    Returns:
        The descriptors, in the order of the files.

    Raises:
        UserError: If a record cannot be used and on_bad_frame is "stop", or no frame is left.
    """
    bad: list[str] = []
    found: list[tuple[int, int, np.ndarray]] = []
    sample: Reservoir[tuple[int, int, ase.Atoms]] = Reservoir(max_frames or 0, seed)
    seen = 0

    def add(number: int, index: int, atoms: ase.Atoms) -> None:
        try:
            found.append((number, index, describe(atoms)))
        except UserError as error:
            _refuse(f"{files[number].source.path}, record {index}: {error}", bad, on_bad_frame)

    for number, file in enumerate(files):
        for index, record in file:
            seen += 1
            if isinstance(record, BadRecord):
                _refuse(str(record), bad, on_bad_frame)
            elif max_frames is None:
                add(number, index, record)
            else:
                sample.add((number, index, record))
    for item in sorted(sample.items, key=lambda item: item[:2]):
        add(*item)
    if not found:
        raise UserError(f"no frame can be used: {bad[0] if bad else 'there are no records'}.")
    return DescribedFrames(
        np.array([features for _, _, features in found]), [(number, index) for number, index, _ in found], seen, bad
    )


def _refuse(reason: str, bad: list[str], on_bad_frame: str) -> None:
    if on_bad_frame == "stop":
        raise UserError(f"{reason}. on_bad_frame=skip leaves such records out.")
    bad.append(reason)
