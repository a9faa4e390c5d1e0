"""Goes through files of structures, once, and reports what is in them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ase
import numpy as np

from mace_gaunt.data.descriptors import RadialAngularDescriptor
from mace_gaunt.data.diversity import Similarity, describe_orders
from mace_gaunt.data.inspection.across import add_duplicates, add_splits, warn_about_mixtures
from mace_gaunt.data.inspection.batches import recommend_batch
from mace_gaunt.data.inspection.compositions import CompositionFit
from mace_gaunt.data.inspection.duplicates import DuplicateFinder, Repeats
from mace_gaunt.data.inspection.file_report import FileReport
from mace_gaunt.data.inspection.report import Report
from mace_gaunt.data.inspection.reservoir import Reservoir
from mace_gaunt.data.inspection.summarise import describe_fit, summarise
from mace_gaunt.data.inspection.tally import FileTally
from mace_gaunt.data.labels import LabelKeys
from mace_gaunt.data.records import RecordFile, open_records
from mace_gaunt.data.sources.contract import BadRecord
from mace_gaunt.data.sources.discovery import RefusedFile
from mace_gaunt.errors import UserError

EDGE_SAMPLE = 20_000
ORDERS = (0.1, 1.0, 2.0, float("inf"))
Watcher = Callable[[str, int], None]
"""Called after every record with the file and the number of its records so far."""


def inspect_files(
    paths: Iterable[str | Path],
    keys: LabelKeys | None = None,
    r_max: float = 5.0,
    *,
    vendi_frames: int = 300,
    memory_gb: float = 8.0,
    watch: Watcher | None = None,
) -> Report:
    """Look through files of structures.

    Every record is read once and none is kept, besides samples of fixed size: memory does not grow with the files.

    Args:
        paths: Files or folders, with slices where wanted.
        keys: Where the labels are looked for; None is "auto" for all.
        r_max: Cutoff radius to count neighbours in (Å).
        vendi_frames: Frames of which the Vendi score is taken, a seeded random sample of all; 0 takes none.
        memory_gb: Memory for which a batch is recommended (GB).
        watch: Called after every record.

    Returns:
        The report. What cannot be read or used is listed in it.

    Raises:
        UserError: If r_max is not positive, no file is named, one is missing or of an unknown kind, or a folder has no
            data.
    """
    if not 0 < r_max < np.inf:
        raise UserError(f"r_max is a positive length in Å, not {r_max}.")
    named = list(paths)
    files = open_records(named)
    inspection = _Inspection(keys or LabelKeys(), r_max, vendi_frames)
    reports = [inspection.inspect(file, watch) for file in files]
    return inspection.finish(reports, memory_gb, one_by_one=len(files) == len(named))


class _Inspection:
    """One pass over some files, with what is collected over all of them."""

    def __init__(self, keys: LabelKeys, r_max: float, vendi_frames: int) -> None:
        self.keys, self.r_max = keys, r_max
        self.duplicates = DuplicateFinder()
        self.repeats: list[Repeats] = []
        self.fit = CompositionFit()
        self.edges: Reservoir[int] = Reservoir(EDGE_SAMPLE)
        self.sample: Reservoir[ase.Atoms] = Reservoir(vendi_frames)

    def inspect(self, file: RecordFile, watch: Watcher | None) -> FileReport:
        """Read a file."""
        tally = FileTally(self.keys, self.r_max)
        self.repeats.append(self.duplicates.open_file())
        if isinstance(file.source, RefusedFile):
            return FileReport(file.name, file.source.format, problems=[file.source.reason])
        for index, record in file:
            tally.frames += 1
            if isinstance(record, BadRecord):
                tally.refuse(index, record.reason)
            else:
                self._add(tally, record, index)
            if watch is not None:
                watch(file.name, tally.frames)
        self.fit.merge(tally.fit)
        report = summarise(file.name, file.source.format, tally)
        if not tally.frames:
            report.problems.append("no records")
        return report

    def _add(self, tally: FileTally, atoms: ase.Atoms, index: int) -> None:
        measures = tally.add(atoms, index)
        if measures is None:
            return
        self.edges.add(measures.n_edges)
        # Isolated atoms are alike by nature.
        if measures.n_atoms > 1:
            self.duplicates.add(atoms, index, measures.energy)
            self.sample.add(atoms)

    def finish(self, files: list[FileReport], memory_gb: float, one_by_one: bool) -> Report:
        """What is in all files together."""
        report = Report(self.r_max, files)
        add_duplicates(files, self.repeats, self.duplicates.part)
        add_splits(report, one_by_one)
        warn_about_mixtures(report)
        report.E0s = describe_fit(self.fit)
        largest = max((int(file.edges["max"]) for file in files if file.edges), default=0)
        if largest:
            report.batch = recommend_batch(self.edges.items, largest, memory_gb)
        if self.sample.items:
            report.vendi = self._vendi()
        return report

    def _vendi(self) -> dict[str, Any]:
        describe = RadialAngularDescriptor(self.r_max)
        features = np.array([describe(atoms) for atoms in self.sample.items])
        scores = describe_orders(Similarity.of(features).eigenvalues(features), ORDERS)
        return {
            "scores": scores,
            "frames": len(features),
            "of": self.sample.seen,
            "descriptor": describe.name,
            "kernel": "gaussian",
        }
