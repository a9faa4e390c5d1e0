"""Make a store from files of structures: in shards, that are kept when the work is cut short at any point."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mace_gaunt.data.store.build import Part, Task, build
from mace_gaunt.data.store.energies import fit_of
from mace_gaunt.data.store.engines import RESUME, Engine
from mace_gaunt.data.store.folder import find_store, has_parts, remove_partial, remove_parts, remove_store, sole_writer
from mace_gaunt.data.store.manifest import Manifest
from mace_gaunt.data.store.request import Request
from mace_gaunt.data.store.settings import Settings
from mace_gaunt.data.store.shard import ShardFiles
from mace_gaunt.data.store.sums import Sums
from mace_gaunt.data.store.survey import SourceEntry, list_sources, survey
from mace_gaunt.errors import UserError

# A process takes seconds to start, which pays for so much work.
RECORDS_PER_PROCESS, BYTES_PER_PROCESS = 500, 2**25

# Is told the records done and all to be done, at the start and after each shard.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prepared:
    """What became of a request.

    Attributes:
        manifest: Of the store.
        built: Number of shards that were made.
        kept: Number of shards that were there.
    """

    manifest: Manifest
    built: int
    kept: int


def prepare(request: Request, engine: Engine, progress: Progress = lambda done, total: None) -> Prepared:
    """Make a store, or complete one.

    A shard is a function of sources and settings, and gets its name when it is whole and on the disk. So a store that
    was cut short at any point and then completed has the bytes of one that was not. A store that is complete is left as
    it is, but for shards that are missing.

    Args:
        request: What is asked for.
        engine: Who does the work.
        progress: Told about each shard.

    Returns:
        The manifest, and what was done.

    Raises:
        UserError: If the request or a file is wrong, or the store there was made from something else.
    """
    folder = Path(request.out).expanduser().resolve()
    paths = list_sources(request.paths, folder)
    with sole_writer(folder):
        there = find_store(folder, request.overwrite)
        sources = _survey(paths, there, engine)
        settings = request.settings(sources)
        manifest = Manifest(settings, sources)
        if there is None:
            remove_store(folder)
        else:
            _refuse_changes(there, settings, sources, folder)
            remove_partial(folder)
        if there is None or not there.complete:
            manifest.write(folder)
        else:
            manifest = there
        try:
            built = _build_missing(folder, manifest, request.on_bad_frame == "skip", engine, progress)
        except UserError:
            if there is None and not has_parts(folder):
                # Nothing is there that the next attempt could go on from.
                remove_store(folder)
            raise
        _replace(manifest, built) if manifest.complete else _complete(folder, manifest)
        if built or manifest is not there:
            manifest.write(folder)
        remove_parts(folder)
        return Prepared(manifest, len(built), len(manifest.shards) - len(built))


def _survey(paths: Sequence[Path], there: Manifest | None, engine: Engine) -> list[SourceEntry]:
    known = {source.path: source for source in there.sources} if there is not None else {}
    tasks = [(path, known.get(str(path))) for path in paths]
    useful = math.ceil(sum(path.stat().st_size for path in paths) / BYTES_PER_PROCESS)
    entries = {entry.path: entry for entry in engine.run(_survey_one, tasks, useful)}
    return [entries[str(path)] for path in paths]


def _survey_one(task: tuple[Path, SourceEntry | None]) -> SourceEntry:
    return survey(*task)


def _refuse_changes(there: Manifest, settings: Settings, sources: Sequence[SourceEntry], folder: Path) -> None:
    """Refuse to mix two requests in one store."""
    # Until a store is complete, nothing in it depends on the fit of a linear reference.
    differences = settings.differences(there.settings, with_fit=there.complete)
    if len(sources) != len(there.sources):
        differences.insert(0, f"{len(sources)} source files, there {len(there.sources)}")
    else:
        pairs = zip(sources, there.sources, strict=True)
        changed = [mine.path for mine, old in pairs if (mine.files, mine.records) != (old.files, old.records)]
        if changed:
            more = f" and {len(changed) - 1} others" if len(changed) > 1 else ""
            differences.insert(0, f"{changed[0]}{more} changed")
    if differences:
        raise UserError(
            f"{folder} was prepared from something else: {'; '.join(differences)}. "
            "Choose another out, or set overwrite=true."
        )


def _build_missing(
    folder: Path, manifest: Manifest, skip: bool, engine: Engine, progress: Progress
) -> list[ShardFiles]:
    """Make the shards that are not there."""
    if manifest.complete:
        missing = [shard.number for shard in manifest.shards if not shard.intact(folder)]
    else:
        missing = [number for number in range(len(manifest.segments)) if Part.read(folder, number) is None]
    segments = manifest.segments
    tasks = [Task(folder, number, tuple(segments[number]), manifest.settings, skip) for number in missing]
    done, total = 0, sum(task.n_records for task in tasks)
    built = []
    if tasks:
        progress(0, total)
    for files, n_records in engine.run(_build_one, tasks, math.ceil(total / RECORDS_PER_PROCESS)):
        built.append(files)
        done += n_records
        progress(done, total)
    return built


def _build_one(task: Task) -> tuple[ShardFiles, int]:
    return build(task).files, task.n_records


def _replace(manifest: Manifest, built: Sequence[ShardFiles]) -> None:
    """Put shards that were made again in the place of those that were missing."""
    for files in built:
        if files.content_sha256 != manifest.shards[files.number].content_sha256:
            raise UserError(f"shard {files.number}, made again, is not what it was. Prepare anew with overwrite=true.")
        manifest.shards[files.number] = files


def _complete(folder: Path, manifest: Manifest) -> None:
    """Fill the manifest from what each shard's own file says, in the order of the shards."""
    sums = Sums()
    for number in range(len(manifest.segments)):
        part = Part.read(folder, number)
        if part is None:
            raise UserError(f"shard {number} has gone from {folder}. {RESUME}")
        sums.merge(part.sums)
        manifest.shards.append(part.files)
        manifest.bad.extend(part.bad)
    if not sums.frames:
        reason = f": {manifest.bad[0].reason}" if manifest.bad else "."
        raise UserError(f"none of {len(manifest.bad)} records can be used{reason}")
    manifest.sums, manifest.complete = sums, True
    if manifest.settings.energy_reference == "linear":
        given = manifest.settings.linear_reference
        manifest.E0s = sums.regress() if given is None else fit_of(given, sums.atomic_numbers)
