"""Records that can be used, and what happens with the others: `on_bad_frame`."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import ase
import numpy as np

from mace_gaunt.data.elements import check_numbers
from mace_gaunt.data.labels import LabelKeys, read_labels
from mace_gaunt.data.sources.contract import BadRecord, Source
from mace_gaunt.errors import UserError, nearest

log = logging.getLogger(__name__)

OnBadFrame = Literal["stop", "skip"]
SHOWN = 10


@dataclass
class Tally:
    """What was read.

    Attributes:
        n_read: Number of records, bad ones included.
        bad: The bad ones, in order.
    """

    n_read: int = 0
    bad: list[BadRecord] = field(default_factory=list)

    def __str__(self) -> str:
        shown = [str(record) for record in self.bad[:SHOWN]]
        more = [f"... and {len(self.bad) - SHOWN} more"] if len(self.bad) > SHOWN else []
        return "\n".join([f"{len(self.bad)} of {self.n_read} records cannot be used", *shown, *more])


def usable(
    sources: Source | Iterable[Source],
    on_bad_frame: OnBadFrame = "stop",
    keys: LabelKeys | None = None,
    tally: Tally | None = None,
) -> Iterator[ase.Atoms]:
    """The structures of some sources that can be used.

    Args:
        sources: The files.
        on_bad_frame: "stop" ends with an error at the first record that cannot be used; "skip" leaves it out, counts
            it, and logs all of them at the end.
        keys: Where the labels are, which must be finite; None is "auto" for all.
        tally: Filled with what was read and what was left out.

    Yields:
        Structures with finite positions, cells and labels.

    Raises:
        UserError: At a bad record, named by file and position with the reason; or if on_bad_frame is something else.
    """
    if on_bad_frame not in ("stop", "skip"):
        raise UserError(f"on_bad_frame={on_bad_frame!r}.{nearest(str(on_bad_frame), ('stop', 'skip'))}")
    tally = Tally() if tally is None else tally
    for source in [sources] if isinstance(sources, Source) else sources:
        for _, record in checked(source, keys):
            tally.n_read += 1
            if isinstance(record, BadRecord):
                if on_bad_frame == "stop":
                    told = str(record).rstrip(".")
                    raise UserError(f"cannot read {told}. Leave such records out with on_bad_frame=skip.")
                tally.bad.append(record)
            else:
                yield record
    if tally.bad:
        log.warning("%s", tally)


def checked(
    source: Source, keys: LabelKeys | None = None, start: int = 0, stop: int | None = None
) -> Iterator[tuple[int, ase.Atoms | BadRecord]]:
    """The records of a source, with those that hold unusable numbers as bad ones.

    Args:
        source: The file.
        keys: Where the labels are; None is "auto" for all.
        start: First record.
        stop: The one after the last; None is to the end.

    Yields:
        Position in the file, and the structure or what is wrong with it.
    """
    keys = LabelKeys() if keys is None else keys
    for index, record in enumerate(source.read(start, stop), start):
        reason = None if isinstance(record, BadRecord) else unusable(record, keys)
        yield index, record if reason is None else BadRecord(source.path, index, reason)


def unusable(atoms: ase.Atoms, keys: LabelKeys) -> str | None:
    """Why the numbers of a structure cannot be used, None when they can."""
    numbers = {"the positions": atoms.positions, "the cell": atoms.cell.array}
    for name in ("relaxed_positions",):
        if name in atoms.arrays:
            numbers[name] = atoms.arrays[name]
    for name in ("relaxed_energy", "reference_energy"):
        if name in atoms.info:
            numbers[name] = atoms.info[name]
    for name, values in numbers.items():
        try:
            finite = np.isfinite(np.asarray(values, dtype=np.float64)).all()
        except (TypeError, ValueError, OverflowError):
            return f"{name} is not a number, but {values!r:.60}."
        if not finite:
            return f"{name} holds values that are not finite (NaN or inf)."
    try:
        check_numbers(atoms.numbers)
        read_labels(atoms, keys)
    except UserError as error:
        return str(error)
    return None
