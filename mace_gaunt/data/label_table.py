"""What labels the files hold: the table that is printed, and the stop when one is missing or misspelt."""

import difflib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import ase

from mace_gaunt.data.labels import QUANTITIES, LabelKeys, find, places
from mace_gaunt.data.readers import Frames
from mace_gaunt.errors import UserError

log = logging.getLogger(__name__)

# A name with this in it may be the label that was meant.
HINTS = {"energy": "energ", "forces": "forc", "stress": "stress"}
# What OC20's sources note beside the labels: none of them is the energy of the frame.
NO_LABELS = {"energy_reference", "reference_energy", "relaxed_energy", "relaxed_positions"}


@dataclass(frozen=True)
class FileLabels:
    """What one file holds.

    Attributes:
        name: The file as the user called it.
        n_frames: Number of frames.
        used: For each of energy, forces, stress, the number of frames in which it was found in each place, such as
            {"energy": {"energy (calculator)": 500}}.
        found: The number of frames that have each name at all, such as {("REF_forces", "arrays"): 500}.
    """

    name: str
    n_frames: int
    used: dict[str, dict[str, int]]
    found: dict[tuple[str, str], int]

    def count(self, quantity: str) -> int:
        """Number of frames that have the label."""
        return sum(self.used[quantity].values())


class LabelCounter:
    """Counts the labels of frames that come one after the other."""

    def __init__(self, keys: LabelKeys) -> None:
        """Start with none.

        Args:
            keys: Where the labels are looked for.
        """
        self.n_frames = 0
        self._keys = keys
        self._used: dict[str, Counter[str]] = {quantity: Counter() for quantity in QUANTITIES}
        self._found: Counter[tuple[str, str]] = Counter()

    def add(self, atoms: ase.Atoms) -> None:
        """Count a frame."""
        self.n_frames += 1
        for place, values in places(atoms).items():
            self._found.update((name, place) for name, value in values.items() if value is not None)
        for quantity, counter in self._used.items():
            counter.update(where for where, _ in find(atoms, self._keys, quantity)[:1])

    def counts(self, name: str) -> FileLabels:
        """The counts so far, under the name of the file."""
        found = {
            key: n for key, n in self._found.items() if key not in (("numbers", "arrays"), ("positions", "arrays"))
        }
        return FileLabels(name, self.n_frames, {q: dict(c) for q, c in self._used.items()}, found)


def count_labels(frames: Frames, keys: LabelKeys) -> FileLabels:
    """Count the labels of a file.

    Args:
        frames: The file.
        keys: Where the labels are looked for.

    Returns:
        The counts.
    """
    counter = LabelCounter(keys)
    for atoms in frames.atoms:
        counter.add(atoms)
    return counter.counts(frames.name)


def require(labels: FileLabels, keys: LabelKeys, quantities: Iterable[str]) -> None:
    """Stop when no frame of a file has a label that is needed.

    Args:
        labels: The counts of the file.
        keys: Where the labels were looked for.
        quantities: The labels needed.

    Raises:
        UserError: Says which is missing, what was found, and the nearest name.
    """
    for quantity in quantities:
        if getattr(keys, quantity) is not None and not labels.count(quantity):
            raise UserError(missing(labels, keys, quantity))


def check_test_labels(labels: FileLabels, keys: LabelKeys) -> None:
    """Tell what a test file lacks; it may lack forces or energies, but not what was asked for by a misspelt name.

    Args:
        labels: The counts of the file.
        keys: Where the labels were looked for.

    Raises:
        UserError: If the file has neither energies nor forces, or a label of an explicit name is missing although the
            file has one of a similar name.
    """
    absent = [q for q in ("energy", "forces") if getattr(keys, q) is not None and not labels.count(q)]
    if not labels.count("energy") and not labels.count("forces"):
        raise UserError(missing(labels, keys, (absent or ["energy"])[0]))
    for quantity in absent:
        if getattr(keys, quantity) != "auto" and near_miss(labels, keys, quantity):
            raise UserError(missing(labels, keys, quantity))
        log.warning(missing(labels, keys, quantity))


def missing(labels: FileLabels, keys: LabelKeys, quantity: str) -> str:
    """The message about a label that no frame has."""
    key = getattr(keys, quantity)
    wanted = quantity if key == "auto" else key
    names = [f"{name} ({n} frames, {place})" for (name, place), n in sorted(labels.found.items())]
    near = near_miss(labels, keys, quantity)
    hint = f" Did you mean {quantity}_key={near}?" if near else ""
    tried = f" (nor 'REF_{quantity}')" if key == "auto" else ""
    return (
        f"no '{wanted}'{tried} in {labels.n_frames}/{labels.n_frames} frames of {labels.name}; "
        f"found: {', '.join(names) or 'no labels at all'}.{hint}"
    )


def near_miss(labels: FileLabels, keys: LabelKeys, quantity: str) -> str | None:
    """The name in a file that was probably meant for a label, None when there is none."""
    key = getattr(keys, quantity)
    wanted = quantity if key == "auto" else key
    # Another quantity's label is not meant, unless it is this one's plain name beside a misspelt key.
    taken = {where.split(" (")[0] for other in QUANTITIES if other != quantity for where in labels.used[other]}
    names = {name for name, _ in labels.found if name not in taken | NO_LABELS}
    hinted = sorted(name for name in names if HINTS[quantity] in name.lower())
    close = difflib.get_close_matches(wanted, hinted, n=1, cutoff=0.0)
    close += difflib.get_close_matches(wanted, sorted(names), n=1, cutoff=0.75)
    return close[0] if close else None


def format_table(files: Sequence[FileLabels]) -> str:
    """The table of labels, one line per file.

    Args:
        files: The counts.

    Returns:
        Lines with the file, its number of frames, and for each label in how many frames it was found, and where.
    """
    header = ("file", "frames", *QUANTITIES)
    return format_rows(header, ((f.name, str(f.n_frames), *(_cell(f, q) for q in QUANTITIES)) for f in files))


def format_rows(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Plain text in aligned columns."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in lines)


def _cell(labels: FileLabels, quantity: str) -> str:
    found = [f"{n} {where}" for where, n in labels.used[quantity].items()]
    if not found:
        return "none"
    absent = labels.n_frames - labels.count(quantity)
    return ", ".join(found + ([f"{absent} without"] if absent else []))
