"""Check a store byte by byte, and against the files that it was made from."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mace_gaunt.data.store.build import Task, gather
from mace_gaunt.data.store.engines import Engine
from mace_gaunt.data.store.folder import SHARD
from mace_gaunt.data.store.manifest import Manifest, read_manifest
from mace_gaunt.data.store.prepare import RECORDS_PER_PROCESS, Progress
from mace_gaunt.data.store.record import read_content, unpack
from mace_gaunt.data.store.settings import Settings
from mace_gaunt.data.store.shard import FileCheck, ShardFiles, index_path, lmdb_path, read_index
from mace_gaunt.data.store.survey import Segment, SourceEntry, survey
from mace_gaunt.errors import UserError

# Checking a frame takes a tenth of the time of making it.
FRAMES_PER_PROCESS = 10 * RECORDS_PER_PROCESS
SHOWN = 3


@dataclass(frozen=True)
class Check:
    """A shard to check.

    Attributes:
        folder: The store.
        files: What the shard has to be.
        segments: What it was made from.
        settings: Of the store.
        deep: Whether it is made again and compared.
    """

    folder: Path
    files: ShardFiles
    segments: tuple[Segment, ...]
    settings: Settings
    deep: bool


def verify(
    folder: Path, engine: Engine, deep: bool = False, progress: Progress = lambda done, total: None
) -> list[str]:
    """Check sizes, checksums, every record and all counts.

    Args:
        folder: The store.
        engine: Who does the work.
        deep: Whether the sources are compared with what they were, and every shard with what they give now.
        progress: Told about each shard.

    Returns:
        What is wrong, a line each; empty when nothing is.

    Raises:
        UserError: If there is no complete store.
    """
    manifest = read_manifest(folder)
    if not manifest.complete:
        raise UserError(f"{folder} is not complete: run the same `mace-gaunt data prepare` again to go on.")
    problems = _strangers(folder, manifest)
    changed = _changed_sources(manifest, engine) if deep else []
    segments = manifest.segments
    again = deep and not changed
    checks = [
        Check(folder, files, tuple(segments[files.number]), manifest.settings, again) for files in manifest.shards
    ]
    total = sum(files.frames for files in manifest.shards)
    found: dict[int, list[str]] = {}
    done = 0
    progress(0, total)
    useful = math.ceil(total / (RECORDS_PER_PROCESS if again else FRAMES_PER_PROCESS))
    for number, wrong in engine.run(check_shard, checks, useful):
        found[number] = wrong
        done += manifest.shards[number].frames
        progress(done, total)
    return problems + changed + [line for _, lines in sorted(found.items()) for line in lines]


def check_shard(check: Check) -> tuple[int, list[str]]:
    """Check a shard without mapping its files.

    Args:
        check: Which.

    Returns:
        Its number, and what is wrong.
    """
    files = check.files
    lmdb, index = lmdb_path(check.folder, files.number), index_path(check.folder, files.number)
    content, wrong = _read(lmdb, files.lmdb)
    table, wrong_index = _read(index, files.index)
    problems = wrong + wrong_index
    if content is None or table is None or wrong_index:
        return files.number, problems
    rows = read_index(table)
    if len(rows) != files.frames:
        return files.number, [*problems, f"{index}: {len(rows)} rows, the manifest says {files.frames} frames"]
    bad = list(_bad_records(content, rows))
    problems += [f"{lmdb}, record {row}: {reason}" for row, reason in bad[:SHOWN]]
    problems += [f"{lmdb}: {len(bad) - SHOWN} more bad records"] if len(bad) > SHOWN else []
    if not bad and _content_sha256(content, rows) != files.content_sha256:
        problems.append(f"{lmdb}: its records are not those that the manifest says")
    if check.deep and not problems:
        problems += _differences(check, content, rows)
    return files.number, problems


def _strangers(folder: Path, manifest: Manifest) -> list[str]:
    """Files that look like a part of the store and are none."""
    expected = {path(folder, files.number).name for files in manifest.shards for path in (lmdb_path, index_path)}
    names = sorted(path.name for path in folder.iterdir() if SHARD.fullmatch(path.name))
    return [f"{folder / name} does not belong to the store" for name in names if name not in expected]


def _changed_sources(manifest: Manifest, engine: Engine) -> list[str]:
    return [line for line in engine.run(_changed_source, manifest.sources, len(manifest.sources) // 10) if line]


def _changed_source(entry: SourceEntry) -> str:
    try:
        now = survey(Path(entry.path), entry)
    except UserError as error:
        return str(error)
    return "" if now == entry else f"{entry.path} has changed since the store was prepared"


def _read(path: Path, check: FileCheck) -> tuple[bytes | None, list[str]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        return None, [f"{path}: {error.strerror}"]
    now = FileCheck.of(content)
    if now.size != check.size:
        return content, [f"{path} has {now.size} bytes; the manifest says {check.size}"]
    return content, [] if now == check else [f"{path} has changed: its sha256 is not that of the manifest"]


def _bad_records(content: bytes, rows: np.ndarray) -> Iterator[tuple[int, str]]:
    """Rows whose record is damaged, or is not the frame that the index says."""
    for number, row in enumerate(rows):
        try:
            fields = unpack(_record(content, row))
        except ValueError as error:
            yield number, str(error)
            continue
        sizes = (len(fields["atomic_numbers"]), fields["pair_index"].shape[1])
        if sizes != (row["n_atoms"], row["n_pairs"]) or fields["frame_index"][0] != row["record"]:
            yield number, "it is not the frame that the index says"
        elif not np.array_equal(fields["energy"][0], row["energy"], equal_nan=True):
            yield number, "its energy is not that of the index"


def _record(content: bytes, row: np.void) -> bytes:
    return content[int(row["offset"]) : int(row["offset"]) + int(row["size"])]


def _content_sha256(content: bytes, rows: np.ndarray) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(read_content(_record(content, row)))
    return digest.hexdigest()


def _differences(check: Check, content: bytes, rows: np.ndarray) -> list[str]:
    """The first record that its source gives otherwise now."""
    try:
        again = gather(Task(check.folder, check.files.number, check.segments, check.settings, skip=True))
    except UserError as error:
        return [f"shard {check.files.number} cannot be made again: {error}"]
    paths = {segment.source: segment.path for segment in check.segments}
    where = [(row[4], row[5]) for row in again.content.rows]
    if where != [(row["source"], row["record"]) for row in rows]:
        return [f"shard {check.files.number}: other records of its sources are bad now"]
    for record, row in zip(again.content.records, rows, strict=True):
        if read_content(record) != read_content(_record(content, row)):
            return [f"{paths[int(row['source'])]}, record {row['record']}: the frame in the store is another"]
    return []
