"""What is in one file, as plain values."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class FileReport:
    """What is in one file. Everything is a JSON value; what does not apply is None or empty.

    Attributes:
        path: The file as it was named, with its slice if there is one.
        format: Name of its format, "unknown" for a file that could not be opened.
        frames: Number of records, those that cannot be used included.
        usable: Number of records without a problem.
        labels: Label -> number of frames that have it: energy, forces, stress, relaxed_energy, relaxed_positions.
        label_places: Label -> where it was found -> number of frames.
        problems: Records that cannot be used, "record 3: why"; the file itself, when it cannot be read.
        warnings: What should be looked at.
        notes: What is good to know.
        elements: Symbol -> number of atoms.
        atoms: Atoms per frame: min, median, max, and total.
        one_atom: Number of frames with one atom.
        periodic: Number of frames with a periodic direction.
        config_types: config_type -> number of frames.
        energy_per_atom: min, median, max (eV) of the frames with more than one atom, and "outliers".
        forces: rms, rms_fixed (of fixed atoms), max, median_max (of the longest per frame), median_net (length of the
            sum over a frame), all eV/Å, and "outliers". Without rms_fixed and median_net they are of free atoms.
        distances: min (Å), median of the shortest of each frame, and "closest": the worst frames.
        edges: per_atom, and per frame min, median, max; frames with an atom that has no neighbour.
        duplicates: Frames that were there before: within (this file), before (in files named before, by path), with
            another energy; examples; part of the frames that was looked at.
        tags: Tag -> number of atoms, when the file has tags.
        fixed: frames and atoms that a FixAtoms constraint holds.
        identifiers: Number of frames with sid and fid.
        energy_reference: What the file says its energies are -> number of frames ("not told" where it does not).
        E0s: elements, rank, undetermined: whether energies per element can be regressed from this file's energies.
        units: energy, forces, length (the guess), probability, sure (a word), reasons.
    """

    path: str
    format: str = "unknown"
    frames: int = 0
    usable: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    label_places: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    elements: dict[str, int] = field(default_factory=dict)
    atoms: dict[str, float] | None = None
    one_atom: int = 0
    periodic: int = 0
    config_types: dict[str, int] = field(default_factory=dict)
    energy_per_atom: dict[str, Any] | None = None
    forces: dict[str, Any] | None = None
    distances: dict[str, Any] | None = None
    edges: dict[str, float] | None = None
    duplicates: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    fixed: dict[str, int] = field(default_factory=dict)
    identifiers: dict[str, int] = field(default_factory=dict)
    energy_reference: dict[str, int] = field(default_factory=dict)
    E0s: dict[str, Any] | None = None
    units: dict[str, Any] = field(default_factory=dict)
