"""From the files of a training set to its frames and statistics."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mace_gaunt.data.atomic_data import AtomicData, symbols
from mace_gaunt.data.graphs import GraphBuilder
from mace_gaunt.data.readers import Frames
from mace_gaunt.data.reference_energies import (
    E0Policy,
    is_isolated_atom,
    isolated_energies,
    resolve_reference_energies,
)
from mace_gaunt.data.splitting import Split
from mace_gaunt.data.statistics import Statistics, cached, compute_statistics, override
from mace_gaunt.errors import UserError, nearest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingFiles:
    """The files of a training set, read: to train on, to validate on (none: split off), isolated atoms."""

    train: Sequence[Frames]
    valid: Sequence[Frames]
    isolated: Sequence[Frames]

    def fingerprint(self) -> dict[str, str]:
        """Checksums of the contents, slices included."""
        groups = {"train": self.train, "valid": self.valid, "isolated": self.isolated}
        contents = {name: json.dumps([[f.sha256, f.indices] for f in files]) for name, files in groups.items()}
        return {name: hashlib.sha256(content.encode()).hexdigest() for name, content in contents.items()}


@dataclass(frozen=True)
class TrainingSet:
    """Statistics, training and validation frames."""

    statistics: Statistics
    train: Sequence[AtomicData]
    valid: Sequence[AtomicData]


def assemble(
    files: TrainingFiles,
    graphs: GraphBuilder,
    split: Split,
    E0s: E0Policy = "isolated",
    overrides: Mapping[str, Any] | None = None,
    cache_dir: str | Path | None = None,
) -> TrainingSet:
    """Build the graphs, set the isolated atoms apart, split, and take the statistics of the training frames.

    Args:
        files: What was read.
        graphs: Builds the graphs.
        split: How to split off the validation frames where there is no file of them.
        E0s: Policy of the isolated-atom energies.
        overrides: Statistics given by the user.
        cache_dir: Folder of the cache of statistics.

    Returns:
        The training set.

    Raises:
        UserError: If there is nothing to train on, a frame is unusable, or E0s cannot be determined.
    """
    given = dict(overrides or {})
    train, valid, energies = _graphs(files, graphs)
    train, valid = (split.limit(train), valid) if files.valid else split.apply(train)
    if not train:
        raise UserError("no training frames: the training file holds isolated atoms only.")
    _check_config_types(graphs.weights, train)
    numbers = given.get("atomic_numbers") or _elements_to_learn(train, valid)
    graphs.set_node_types([*train, *valid], numbers)

    def compute() -> Statistics:
        reference = given.get("E0s") or resolve_reference_energies(E0s, train, numbers, energies)
        return compute_statistics(train, numbers, reference)

    policy = E0s if isinstance(E0s, str) else {str(key): str(value) for key, value in E0s.items()}
    inputs = files.fingerprint() | {"r_max": graphs.r_max, "E0s": policy, "given": given}
    inputs |= {"split": asdict(split), "keys": asdict(graphs.keys), "labels": dict(graphs.label_settings)}
    return TrainingSet(override(lambda: cached(cache_dir, inputs, compute), given), train, valid)


def _graphs(files: TrainingFiles, graphs: GraphBuilder) -> tuple[list[AtomicData], list[AtomicData], dict[int, float]]:
    """Training and validation frames without isolated atoms, and the energies of those (atomic number -> eV).

    Their node_types count the elements of all files. A model may know fewer: the files may hold frames that are not
    trained on.
    """
    found = elements(*files.train, *files.valid, *files.isolated)
    train, valid, isolated = (
        [graph for file in group for graph in graphs.build(file, found)]
        for group in (files.train, files.valid, files.isolated)
    )
    for graph in isolated:
        if not is_isolated_atom(graph):
            raise UserError(
                f"isolated_atoms_file: frame {int(graph.frame_index)} has {graph.num_nodes} atoms and "
                f"{graph.num_edges} edges; expected single atoms that see no periodic image, with energies."
            )
    energies = isolated_energies([*train, *valid, *isolated])
    bound = [[graph for graph in group if not is_isolated_atom(graph)] for group in (train, valid)]
    return bound[0], bound[1], energies


def elements(*files: Frames) -> list[int]:
    """Atomic numbers of all elements in some files, sorted."""
    numbers = [atoms.numbers for file in files for atoms in file.atoms]
    return np.unique(np.concatenate(numbers)).tolist() if numbers else []


def _elements_to_learn(train: Sequence[AtomicData], valid: Sequence[AtomicData]) -> list[int]:
    """The elements of the frames; those of isolated atoms alone are left out, since nothing about them is learnt."""
    learnt, seen = ({int(n) for graph in group for n in graph.atomic_numbers.unique()} for group in (train, valid))
    if seen - learnt:
        log.warning(
            "only validation frames contain %s: the model cannot learn about it", symbols(sorted(seen - learnt))
        )
    return sorted(learnt | seen)


def _check_config_types(weights: Mapping[str, float], train: Sequence[AtomicData]) -> None:
    present = {graph.config_type for graph in train} | {"Default"}
    for name in weights:
        if name not in present:
            raise UserError(f"config_type_weights: no training frame has config_type '{name}'.{nearest(name, present)}")
