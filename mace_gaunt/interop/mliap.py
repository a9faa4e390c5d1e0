"""A model as LAMMPS's `pair_style mliap unified`, for LAMMPS built with Python, ML-IAP and Kokkos.

LAMMPS gives pairs of atoms and asks for their forces; between the layers it carries the features of the atoms to their
copies on other processes, and gradients back. So a process computes each of its atoms once, and nothing of its ghosts.

Source: LAMMPS, python/lammps/mliap/mliap_unified_abc.py and src/ML-IAP/mliap_unified.cpp (`update_pair_forces`); the
exchange between layers follows mace-torch's and NequIP's classes for this interface.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from mace_gaunt.errors import UserError
from mace_gaunt.model.mace import MACE


class MaceGauntMLIAP:
    """What LAMMPS calls: the methods and attributes of `lammps.mliap.mliap_unified_abc.MLIAPUnified`.

    It is not derived from that class, so that it can be made and loaded where the module is absent.

    Attributes:
        model: The potential.
        element_types: Chemical symbols; LAMMPS's `pair_coeff * * C H` chooses from them.
        rcutfac: Half of the cutoff (Å): LAMMPS takes the sum of two atoms' radii.
        ndescriptors: 1; there are no descriptors that LAMMPS would see.
        nparams: 1; nor parameters.
        interface: Set by LAMMPS.
    """

    def __init__(self, model: MACE) -> None:
        """Wrap a model.

        Args:
            model: The potential, ready to predict, on the device and in the precision it will be used in. Atoms'
                arrays that LAMMPS holds elsewhere are moved.
        """
        self.model = model.eval()
        self.element_types = [chemical_symbols[number] for number in model.atomic_numbers]
        self.rcutfac = 0.5 * model.r_max
        self.ndescriptors = 1
        self.nparams = 1
        self.interface: Any = None

    def compute_descriptors(self, data: Any) -> None:
        """Nothing: LAMMPS calls it before `compute_forces`."""

    def compute_gradients(self, data: Any) -> None:
        """Nothing: LAMMPS calls it before `compute_forces`."""

    def compute_forces(self, data: Any) -> None:
        """Energies of own atoms and forces of pairs.

        Args:
            data: LAMMPS's MLIAPDataPy. Read are nlocal, ntotal, elems [ntotal], pair_i and pair_j [npairs], rij
                [npairs, 3] (Å, from i to j, where i is an own atom) and, with more than one layer, forward_exchange and
                reverse_exchange. Set are energy, eatoms [nlocal] (eV) and, by update_pair_forces, dE/drij [npairs, 3]
                (eV/Å), which LAMMPS adds to the force on i and subtracts from that on j.

        Raises:
            UserError: If the model has several layers and this LAMMPS cannot exchange their features.
        """
        # Without own atoms too: all processes take part in the exchanges.
        num_own = int(data.nlocal)
        many = len(self.model.products) > 1
        if many and not hasattr(data, "forward_exchange"):
            raise UserError(
                "a model of several layers needs ML-IAP of a LAMMPS with Kokkos (lmp -k on ... -sf kk): only there are "
                "features exchanged between processes."
            )
        device, dtype = self.model.device, self.model.dtype
        types = torch.as_tensor(data.elems, device=device).long()
        sender, receiver = (torch.as_tensor(pair, device=device).long() for pair in (data.pair_j, data.pair_i))
        vectors = torch.as_tensor(data.rij, device=device).to(dtype)
        # LAMMPS lists pairs up to its own cutoff, which may be longer.
        within = torch.linalg.vector_norm(vectors, dim=-1) < self.model.r_max
        with torch.enable_grad(), exchanged(self.model, data, num_own):
            leaf = vectors[within].requires_grad_(True)
            # The model's vectors point from sender to receiver.
            energies = self.model(-leaf, types, torch.stack([sender[within], receiver[within]]))[:num_own]
            (gradient,) = torch.autograd.grad(energies.sum(), leaf)
        totals = energies.detach().double() + self.model.E0s[types[:num_own]]
        forces = torch.zeros(vectors.shape, dtype=torch.float64, device=device)
        forces[within] = gradient.double()
        hand_over(data, totals, forces)


@contextmanager
def exchanged(model: MACE, data: Any, num_own: int) -> Iterator[None]:
    """While it lasts, ghosts get the features that their owners computed, behind every layer but the last.

    Args:
        model: The potential.
        data: See `MaceGauntMLIAP.compute_forces`.
        num_own: Own atoms, which come first.
    """

    def exchange(module: nn.Module, inputs: Any, features: Tensor) -> Tensor:
        # The model may have put nodes of its own, isolated atoms, before the atoms.
        extra = features.shape[0] - int(data.ntotal)
        atoms = Exchange.apply(features[extra:], data, num_own)
        return torch.cat([features[:extra], atoms])

    hooks = [product.register_forward_hook(exchange) for product in list(model.products)[:-1]]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Exchange(torch.autograd.Function):
    """Features of own atoms -> those of own atoms and ghosts; in the backward pass gradients of ghosts to own atoms."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, data: Any, num_own: int) -> Tensor:
        """Features, shape [ntotal, ...]; rows of ghosts are overwritten."""
        ctx.data, ctx.num_own = data, num_own
        source = features.flatten(1).contiguous()
        result = source.clone()
        data.forward_exchange(source, result, source.shape[1])
        return result.reshape(features.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of the result, shape [ntotal, ...]; what this process computed for ghosts was not used."""
        source = gradients[0].flatten(1).contiguous()
        result = source.clone()
        ctx.data.reverse_exchange(source, result, source.shape[1])
        result[ctx.num_own :] = 0
        return result.reshape(gradients[0].shape), None, None


def hand_over(data: Any, energies: Tensor, forces: Tensor) -> None:
    """Give LAMMPS its results.

    Args:
        data: See `MaceGauntMLIAP.compute_forces`; with Kokkos on a GPU its arrays are there.
        energies: Of own atoms, shape [nlocal], float64 (eV).
        forces: dE/drij, shape [npairs, 3], float64 (eV/Å).
    """
    of_atoms = torch.as_tensor(data.eatoms)
    of_atoms[: len(energies)] = energies.to(of_atoms)
    data.energy = float(energies.sum())
    if hasattr(data, "update_pair_forces_gpu"):
        data.update_pair_forces_gpu(forces)
    else:
        data.update_pair_forces(forces.cpu().numpy())


def save_mliap(model: MACE, path: str | Path) -> Path:
    """Write the file that `pair_style mliap unified FILE 0` reads.

    It is a pickle, which is what LAMMPS reads: loading it runs code from the file. Share the model folder, and write
    this file where LAMMPS runs.

    Args:
        model: The potential, on the device and in the precision it will be used in.
        path: The file; it ends in ".pt", by which LAMMPS knows what it is.

    Returns:
        The file.

    Raises:
        UserError: If the name ends in something else.
    """
    path = Path(path).expanduser()
    if path.suffix != ".pt":
        raise UserError(f"'{path}': LAMMPS reads torch's pickles by their ending: name it {path.stem}.pt.")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(MaceGauntMLIAP(model), path)
    return path
