"""One model or a committee of them, asked for what ASE calls results."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mace_gaunt.errors import UserError
from mace_gaunt.model.kernels import KernelChoice
from mace_gaunt.model.mace import MACE
from mace_gaunt.simulation.batching import in_batches
from mace_gaunt.simulation.committee import average, check_members
from mace_gaunt.simulation.graphs import Graph, join
from mace_gaunt.simulation.potential import Potential, Slopes
from mace_gaunt.simulation.results import to_results, voigt_stress

Model = str | Path | MACE


class Answer:
    """Energies and forces of some structures, from which stress can still be had without running a model again."""

    def __init__(self, members: list[list[dict[str, Any]]], slopes: list[Slopes]) -> None:
        """Keep what the models gave.

        Args:
            members: Results of each model, one dictionary per structure.
            slopes: What each model's stress is made of.
        """
        self._members, self._slopes = members, slopes

    def results(self) -> list[dict[str, Any]]:
        """Results of each structure; of a committee means and standard deviations."""
        return combined(self._members)

    def add_stress(self) -> None:
        """Add stress to the results; every cell must be fully periodic."""
        for member, slopes in zip(self._members, self._slopes, strict=True):
            for result, stress in zip(member, voigt_stress(slopes.stress()), strict=True):
                result["stress"] = stress


class Ensemble:
    """The models of a calculator: one, or the members of a committee.

    Attributes:
        potentials: The models as they are run.
        is_committee: Whether there are several, and standard deviations.
        names: Of the models: what they were loaded from, or their class.
        r_max: Largest cutoff radius (Å): graphs hold the pairs within it.
    """

    def __init__(
        self,
        model: Model | Sequence[Model],
        device: str,
        dtype: str,
        kernel: KernelChoice,
        compile: bool,
        package: str | Path | None,
        head: str | None,
    ) -> None:
        """Load the models; arguments and errors are those of `MaceGauntCalculator`."""
        self.is_committee = isinstance(model, Sequence) and not isinstance(model, str)
        models: list[Any] = list(model) if isinstance(model, Sequence) and not isinstance(model, str) else [model]
        if self.is_committee and package is not None:
            raise UserError("a package belongs to one model: give it without a committee.")
        self.names = [str(one) if isinstance(one, (str, Path)) else type(one).__name__ for one in models]
        self.potentials = [Potential(one, device, dtype, kernel, compile, package, head) for one in models]
        if self.is_committee:
            check_members(self.models)
        self.r_max = max(one.r_max for one in self.models)

    @property
    def models(self) -> list[MACE]:
        """The model, or all members of a committee."""
        return [potential.model for potential in self.potentials]

    @property
    def is_compiled(self) -> bool:
        """Whether energies alone are no less work than with forces."""
        return any(potential.is_compiled for potential in self.potentials)

    @property
    def kernels(self) -> dict[str, str]:
        """What "auto" chose for each product and why; products of the members of a committee are numbered."""
        if len(self.potentials) == 1:
            return self.potentials[0].kernels
        members = enumerate(self.potentials)
        return {f"{index}.{name}": choice for index, one in members for name, choice in one.kernels.items()}

    def use_compiled(self, on: bool) -> None:
        """Compile all models at the next `prepare` or calculation, or none; see `Potential.use_compiled`."""
        for potential in self.potentials:
            potential.use_compiled(on)

    def prepare(self, graph: Graph) -> None:
        """Measure kernels and compile, once, at the sizes of a graph; see `Potential.prepare`."""
        for potential, own in self.graphs(graph):
            potential.prepare(own)

    def graphs(self, graph: Graph) -> list[tuple[Potential, Graph]]:
        """Each model with the pairs that are near enough for it."""
        radii = {potential.model.r_max for potential in self.potentials}
        own = {r_max: graph if r_max == self.r_max else graph.within(r_max) for r_max in radii}
        return [(potential, own[potential.model.r_max]) for potential in self.potentials]

    def energies(self, graph: Graph) -> list[dict[str, Any]]:
        """Results without forces, one dictionary per structure."""
        return combined([to_results(one.energies(own), own.sizes) for one, own in self.graphs(graph)])

    def forces(self, graph: Graph) -> Answer:
        """Energies and forces."""
        predictions = [one.forces(own) for one, own in self.graphs(graph)]
        members = [to_results(prediction, graph.sizes) for prediction, _ in predictions]
        return Answer(members, [slopes for _, slopes in predictions])

    def evaluate(self, graphs: Iterable[Graph], max_edges: int, *, forces: bool, stress: bool) -> list[dict[str, Any]]:
        """Results of a stream of structures, in batches of at most max_edges edges; see `in_batches`."""
        results: list[dict[str, Any]] = []
        for members in in_batches(graphs, max_edges):
            batch = join(members)
            if forces or stress:
                answer = self.forces(batch)
                if stress:
                    answer.add_stress()
                results += answer.results()
            else:
                results += self.energies(batch)
        return results


def combined(members: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The only member's results as they are, or what a committee makes of all of them, per structure."""
    if len(members) == 1:
        return [dict(result) for result in members[0]]
    return [average(results) for results in zip(*members, strict=True)]
