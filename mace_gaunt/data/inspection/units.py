"""In which units a file's numbers probably are, from the physics they must obey.

Four observations, none of which needs to know the method that made the data:

- Curvature. Between two frames a small step apart, sum |dF|^2 / sum(-dF . dx) is a mean of the eigenvalues of the
  Hessian. Bonds are much alike in all matter: medians of the files of 3BPA, acetylacetone, ethanol, aspirin and of 15
  relaxations of OC20 lie between 2 and 98 eV/Å^2. Hartree/Bohr and kcal/mol/Å are 51 and 23 times away.
- Work. For the same steps the change of the energy is -F . dx, where F at both ends agrees about it.
- All-electron energies. Total energies with all electrons are those of Thomas-Fermi atoms with the corrections of
  Scott, Dirac and Schwinger, -0.7687 Z^(7/3) + Z^2/2 - 0.2699 Z^(5/3) Hartree (Schwinger, Phys. Rev. A 24, 2353
  (1981)), within a few percent. Energies with pseudopotentials, or relative to something, are not.
- Contact. The two nearest atoms of a frame are about the sum of their covalent radii apart.

Each has a log-normal likelihood; with the prior weights of `UNITS` they give a probability by Bayes' rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import units

HARTREE_FORCE = units.Hartree / units.Bohr
KCAL, KJ = units.kcal / units.mol, units.kJ / units.mol

# (energy, force, size of the energy unit in eV, of the force unit in eV/Å, prior weight)
UNITS: tuple[tuple[str, str, float, float, float], ...] = (
    ("eV", "eV/Å", 1.0, 1.0, 0.80),
    ("Hartree", "Hartree/Bohr", units.Hartree, HARTREE_FORCE, 0.06),
    ("Hartree", "Hartree/Å", units.Hartree, units.Hartree, 0.02),
    ("kcal/mol", "kcal/mol/Å", KCAL, KCAL, 0.06),
    ("kJ/mol", "kJ/mol/Å", KJ, KJ, 0.01),
    ("kJ/mol", "kJ/mol/nm", KJ, KJ / 10, 0.01),
    ("Rydberg", "Rydberg/Bohr", units.Rydberg, HARTREE_FORCE / 2, 0.02),
    ("eV", "Hartree/Bohr", 1.0, HARTREE_FORCE, 0.01),
    ("Hartree", "eV/Å", units.Hartree, 1.0, 0.01),
)
LENGTHS = {"Å": (1.0, 0.96), "Bohr": (units.Bohr, 0.03), "nm": (10.0, 0.01)}
"""Size of the unit in Å, and prior weight."""

# Medians in eV and Å, and spread of their logarithms.
CURVATURE, CURVATURE_SPREAD = 30.0, 1.1
FORCE, FORCE_SPREAD = 0.5, 1.8
CONTACT, CONTACT_SPREAD = 0.97, 0.2
WORK_SPREAD, ALL_ELECTRON_SPREAD = 0.08, 0.02
# An all-electron energy farther than this from what is expected is none (a pseudopotential, a reference).
ALL_ELECTRON_REACH = 0.06
LEAST_STEPS = 5
SURE, LIKELY = 0.95, 0.75


@dataclass(frozen=True)
class Evidence:
    """What a file shows, in its own units.

    Attributes:
        curvatures: sum |dF|^2 / sum(-dF . dx) of pairs of frames.
        works: Change of the energy over -F . dx, of pairs of frames.
        forces_rms: Root mean square of the force components, None without forces.
        all_electron: Energies over those of all electrons in Hartree, one per frame.
        contacts: Shortest distance over the sum of covalent radii, one per frame.
    """

    curvatures: Sequence[float] = ()
    works: Sequence[float] = ()
    forces_rms: float | None = None
    all_electron: Sequence[float] = ()
    contacts: Sequence[float] = ()


@dataclass(frozen=True)
class UnitsGuess:
    """The most probable units.

    Attributes:
        energy: Of energies, None when nothing tells.
        forces: Of forces, None when nothing tells.
        length: Of positions, None when nothing tells.
        probability: Of energy and forces together.
        length_probability: Of length.
        gradients: Whether the forces have the sign of gradients.
        reasons: What was seen.
    """

    energy: str | None = None
    forces: str | None = None
    length: str | None = None
    probability: float = 0.0
    length_probability: float = 0.0
    gradients: bool = False
    reasons: list[str] = field(default_factory=list)

    @property
    def sureness(self) -> str:
        """In a word: sure, likely, unsure."""
        return sureness(self.probability)

    @property
    def is_expected(self) -> bool:
        """Whether nothing likely is other than eV, Å and forces that are minus the gradient."""
        energies = self.probability < LIKELY or (self.energy in (None, "eV") and self.forces in (None, "eV/Å"))
        return energies and (self.length_probability < LIKELY or self.length == "Å") and not self.gradients

    def __str__(self) -> str:
        parts = [" and ".join(unit for unit in (self.energy, self.forces) if unit)]
        parts[0] += f" ({self.sureness})" if parts[0] else ""
        parts.append(f"{self.length} ({sureness(self.length_probability)})" if self.length else "")
        return ", ".join(part for part in parts if part) or "nothing tells"


def guess_units(evidence: Evidence) -> UnitsGuess:
    """The most probable units of a file.

    Args:
        evidence: What it shows.

    Returns:
        The guess; units without any evidence are None.
    """
    energies, reasons, gradients = _energy_likelihoods(evidence)
    length, length_probability = _guess_length(evidence.contacts, reasons)
    if energies is None:
        return UnitsGuess(length=length, length_probability=length_probability, reasons=reasons)
    logs = energies + np.log([unit[4] for unit in UNITS])
    weights = np.exp(logs - logs.max())
    best = int(weights.argmax())
    energy, forces = UNITS[best][:2]
    return UnitsGuess(
        energy if evidence.all_electron or len(evidence.works) >= LEAST_STEPS else None,
        forces if evidence.forces_rms is not None else None,
        length,
        float(weights[best] / weights.sum()),
        length_probability,
        gradients,
        reasons,
    )


def all_electron_energy(numbers: np.ndarray) -> float:
    """Sum of the energies of neutral atoms with all electrons (Hartree), within a few percent."""
    z = numbers.astype(float)
    atoms = -0.7687 * z ** (7 / 3) + 0.5 * z**2 - 0.2699 * z ** (5 / 3)
    # The expansion is for many electrons; hydrogen and helium are known.
    return float(np.where(z == 1, -0.5, np.where(z == 2, -2.9037, atoms)).sum())


def sureness(probability: float) -> str:
    """A probability in a word."""
    return "sure" if probability >= SURE else "likely" if probability >= LIKELY else "unsure"


def _energy_likelihoods(evidence: Evidence) -> tuple[np.ndarray | None, list[str], bool]:
    """Logarithms of the likelihood of each of UNITS, shape [len(UNITS)]; None without any evidence."""
    energy_sizes, force_sizes = (np.log([unit[i] for unit in UNITS]) for i in (2, 3))
    total = np.zeros(len(UNITS))
    reasons: list[str] = []
    seen = gradients = False
    if len(evidence.curvatures) >= LEAST_STEPS:
        curvature = float(np.median(evidence.curvatures))
        gradients = float(np.mean(np.array(evidence.curvatures) < 0)) > 0.75
        total += _log_normal(np.log(abs(curvature) / CURVATURE) + force_sizes, CURVATURE_SPREAD)
        seen = True
        reasons.append(
            f"curvature {curvature:.3g} in units of force/Å over {len(evidence.curvatures)} pairs of frames "
            f"(matter: 2 to 100 eV/Å^2)"
        )
    elif evidence.forces_rms:
        total += _log_normal(np.log(evidence.forces_rms / FORCE) + force_sizes, FORCE_SPREAD)
        seen = True
        reasons.append(f"rms force {evidence.forces_rms:.3g} (usual: 0.05 to 3 eV/Å)")
    if len(evidence.works) >= LEAST_STEPS:
        work = float(np.median(evidence.works))
        gradients |= float(np.mean(np.array(evidence.works) < 0)) > 0.75
        seen = True
        reasons.append(
            f"energies change by {work:.3g} times what the forces say (median of {len(evidence.works)} steps)"
        )
        total += _log_normal(np.log(abs(work)) + energy_sizes - force_sizes, WORK_SPREAD, reach=5.0)
    if len(evidence.all_electron):
        ratio = float(np.median(evidence.all_electron))
        off = np.log(max(ratio, 1e-30)) + energy_sizes - np.log(units.Hartree)
        if np.abs(off).min() < ALL_ELECTRON_REACH:
            seen = True
            total += _log_normal(off, ALL_ELECTRON_SPREAD, reach=5.0)
            reasons.append(f"energies are {ratio:.4g} times all-electron energies in Hartree")
    return (total if seen else None), reasons, bool(gradients)


def _guess_length(contacts: Sequence[float], reasons: list[str]) -> tuple[str | None, float]:
    if not len(contacts):
        return None, 0.0
    # Molecules apart from each other make large values as well; the lower quarter is bonds.
    contact = float(np.quantile(contacts, 0.25))
    names = list(LENGTHS)
    logs = [
        np.log(prior) + float(_log_normal(np.log(contact * size / CONTACT), CONTACT_SPREAD))
        for size, prior in LENGTHS.values()
    ]
    weights = np.exp(np.array(logs) - max(logs))
    reasons.append(f"nearest atoms are {contact:.3g} times the sum of their covalent radii in Å apart")
    best = int(weights.argmax())
    return names[best], float(weights[best] / weights.sum())


def _log_normal(off: np.ndarray | float, spread: float, reach: float = np.inf) -> np.ndarray:
    """Logarithm of a normal density, flat beyond `reach` spreads: one odd observation must not decide everything."""
    return -0.5 * np.minimum(np.abs(off) / spread, reach) ** 2
