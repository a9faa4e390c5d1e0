"""LAMMPS input scripts: `pair_style mace_gaunt` becomes commands that every LAMMPS has. Nothing here needs LAMMPS."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ase.data import atomic_masses, atomic_numbers, chemical_symbols

from mace_gaunt.data.atomic_data import symbols
from mace_gaunt.errors import UserError, nearest

STYLE = "mace_gaunt"
NO_PER_ATOM_VIRIAL = ("stress/atom", "centroid/stress/atom", "heat/flux")
# Two masses are of one element within this part; isotopes and heavy hydrogen of no other element of a model are.
SAME_MASS = 0.005
MOST_INCLUDES = 16


@dataclass(frozen=True)
class Segment:
    """A stretch of a script up to the point at which the potential is set up, or up to the end.

    Attributes:
        text: LAMMPS commands.
        elements: What stood behind `pair_coeff * *`, variables included; None for the last stretch.
    """

    text: str
    elements: str | None


@dataclass(frozen=True)
class Line:
    """One command, which may be continued over several lines.

    Attributes:
        where: File and number of its first line.
        raw: The lines as they stand.
        words: Its words, without comment.
    """

    where: str
    raw: str
    words: tuple[str, ...]


def translate(path: str | Path, cutoff: float) -> list[Segment]:
    """Replace `pair_style mace_gaunt` and the `pair_coeff * * C H ...` behind it.

    The style becomes `pair_style zero`, which computes nothing, but lets LAMMPS keep ghosts up to its cutoff. The
    model itself is hooked in by a fix behind the `pair_coeff`, from outside: there the script is cut in two.

    Args:
        path: The script. Files that it includes by name are read too where they set pair styles or coefficients.
        cutoff: What LAMMPS is told (Å).

    Returns:
        At least two stretches, in order.

    Raises:
        UserError: If a file cannot be read, the model is not used, or used in a way that is not possible.
    """
    segments: list[Segment] = []
    text: list[str] = []
    waiting: Line | None = None
    for line in read_lines(path):
        _check(line)
        if line.words[:2] == ("pair_style", STYLE):
            waiting = line
            text.append(f"pair_style zero {cutoff:.15g}  # {line.words[0]} {STYLE}\n")
        elif line.words[:1] == ("pair_coeff",) and waiting:
            if line.words[1:3] != ("*", "*"):
                raise UserError(f"{line.where}: 'pair_coeff * * C H ...' names the elements of all types at once.")
            text.append("pair_coeff * *\n")
            segments.append(Segment("".join(text), " ".join(line.words[3:])))
            text, waiting = [], None
        else:
            text.append(line.raw)
            if line.words[:1] == ("pair_style",):
                waiting = None
    if waiting:
        raise UserError(f"{waiting.where}: 'pair_style {STYLE}' is not followed by 'pair_coeff * * C H ...'.")
    if not segments:
        raise UserError(
            f"'{path}' does not use the model: write 'pair_style {STYLE}' and 'pair_coeff * * C H ...', "
            "with the element of each atom type, where other potentials have their pair_style and pair_coeff."
        )
    return [*segments, Segment("".join(text), None)]


def read_lines(path: str | Path, depth: int = 0) -> Iterator[Line]:
    """The commands of a script, included files in their place where that matters here.

    Args:
        path: The script.
        depth: How many files include it.

    Yields:
        Commands, blank lines and comments.

    Raises:
        UserError: If a file cannot be read, or files include each other.
    """
    if depth > MOST_INCLUDES:
        raise UserError(f"'{path}': more than {MOST_INCLUDES} files include each other.")
    for line in _commands(Path(path).expanduser()):
        included = line.words[1] if line.words[:1] == ("include",) and len(line.words) == 2 else ""
        if included and Path(included).is_file() and "pair_" in _read(Path(included)):
            yield from read_lines(included, depth + 1)
        else:
            yield line


def parse_elements(words: str | Sequence[str]) -> list[str]:
    """Elements as the user writes them: "C H O", "C,H,O" or a list.

    Raises:
        UserError: If a word is no element.
    """
    names = re.split(r"[\s,]+", words.strip()) if isinstance(words, str) else [str(word) for word in words]
    names = [name for name in names if name]
    for name in names:
        if name not in atomic_numbers or name == "X":
            raise UserError(f"elements of the atom types: no element '{name}'.{nearest(name, chemical_symbols[1:])}")
    return names


def choose_elements(of_script: Sequence[str], of_key: Sequence[str]) -> list[str]:
    """The element of each atom type, from where it is written.

    Args:
        of_script: Behind `pair_coeff * *`.
        of_key: The key `elements`.

    Returns:
        Chemical symbols, type by type; none if they are written nowhere.

    Raises:
        UserError: If script and key differ.
    """
    if of_script and of_key and list(of_script) != list(of_key):
        raise UserError(f"elements: pair_coeff says {' '.join(of_script)}, elements= says {' '.join(of_key)}.")
    return list(of_script or of_key)


def map_types(elements: Sequence[str], num_types: int, known: Sequence[int]) -> list[int]:
    """Atomic numbers of the atom types.

    Args:
        elements: Chemical symbols, type by type.
        num_types: Atom types of the LAMMPS box.
        known: Atomic numbers of the model.

    Returns:
        Atomic numbers, type by type.

    Raises:
        UserError: If there are too many or too few, or the model does not know one.
    """
    if len(elements) != num_types:
        raise UserError(
            f"the box has {num_types} atom types, but {len(elements)} elements are given ({' '.join(elements)}): "
            "pair_coeff names the element of every type, in order."
        )
    numbers = [atomic_numbers[name] for name in elements]
    unknown = sorted(set(numbers) - set(known))
    if unknown:
        raise UserError(f"the model knows only {symbols(known)}, not {symbols(unknown)}.")
    return numbers


def check_masses(numbers: Sequence[int], masses: Mapping[int, float], known: Iterable[int]) -> None:
    """Refuse a type whose mass is that of another element of the model: the mapping is in another order then.

    Args:
        numbers: Atomic numbers of the types.
        masses: Mass of each type that has one, by type from 1.
        known: Atomic numbers of the model.

    Raises:
        UserError: Naming type, element and mass.
    """
    for kind, mass in masses.items():
        number = numbers[kind - 1]
        if _alike(mass, number):
            continue
        other = next((one for one in known if one != number and _alike(mass, one)), None)
        if other is not None:
            raise UserError(
                f"atom type {kind} is said to be {chemical_symbols[number]}, but its mass {mass:g} is that of "
                f"{chemical_symbols[other]}: give the elements in the order of the types."
            )


def _alike(mass: float, number: int) -> bool:
    return bool(abs(mass - atomic_masses[number]) <= SAME_MASS * atomic_masses[number])


def _check(line: Line) -> None:
    """Refuse what cannot work."""
    command, *arguments = line.words or ("",)
    if command == "pair_style" and STYLE in arguments and line.words != ("pair_style", STYLE):
        raise UserError(f"{line.where}: write 'pair_style {STYLE}' alone; it takes no arguments and no hybrid style.")
    if command == "compute" and len(arguments) > 2 and arguments[2] in NO_PER_ATOM_VIRIAL:
        raise UserError(
            f"{line.where}: compute {arguments[2]} needs the virial of each atom, which is not given to LAMMPS; "
            "the energy of each atom and the total pressure are."
        )


def _commands(path: Path) -> Iterator[Line]:
    """The commands of one file; the continuations of a line are joined."""
    raw, words, start = "", "", 0
    for number, line in enumerate(_read(path).splitlines(keepends=True), start=1):
        start = start if raw else number
        raw += line if line.endswith("\n") else line + "\n"
        code = line.split("#")[0].rstrip()
        words += code.removesuffix("&") + " "
        if not code.endswith("&"):
            yield Line(f"{path}, line {start}", raw, tuple(words.split()))
            raw, words = "", ""
    if raw:
        yield Line(f"{path}, line {start}", raw, tuple(words.split()))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"No LAMMPS input '{path}'.{nearest(path.name, beside) if beside else ''}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the LAMMPS input '{path}' cannot be read: {error}") from error
