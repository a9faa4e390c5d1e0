"""manifest.json: what a store holds, and what it was made from and how."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from mace_gaunt.data.atomic_data import symbols
from mace_gaunt.data.store.settings import Settings
from mace_gaunt.data.store.shard import ShardFiles
from mace_gaunt.data.store.sums import Sums
from mace_gaunt.data.store.survey import Segment, SourceEntry, cut
from mace_gaunt.errors import UserError
from mace_gaunt.files import write_whole

NAME, FORMAT, SCHEMA = "manifest.json", "mace_gaunt store", 1


@dataclass(frozen=True)
class BadEntry:
    """A record that is not in the store.

    Attributes:
        source: Number of its source.
        record: Its position in the source.
        reason: What is wrong.
    """

    source: int
    record: int
    reason: str


@dataclass
class Manifest:
    """The manifest of a store.

    Attributes:
        settings: What it was made with.
        sources: What it was made from.
        complete: Whether all shards are there; what follows is filled then.
        shards: The files of each shard.
        sums: Over all frames.
        bad: Records left out.
        E0s: Of energy_reference="linear": energy of each element of `sums` (eV).
    """

    settings: Settings
    sources: list[SourceEntry]
    complete: bool = False
    shards: list[ShardFiles] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)
    bad: list[BadEntry] = field(default_factory=list)
    E0s: list[float] | None = None

    @property
    def segments(self) -> list[list[Segment]]:
        """Which records each shard is made from."""
        return cut(self.sources, self.settings.shard_size)

    @property
    def energies(self) -> dict[str, Any]:
        """Number, mean, spread (eV) and range of the energies; of a linear reference, of what the fit leaves."""
        sums = self.sums
        values = {"reference": self.settings.energy_reference, "frames": sums.with_energy}
        if not sums.with_energy:
            return values
        mean, spread = (sums.energy.mean, sums.energy.spread) if self.E0s is None else sums.residual(self.E0s)
        return values | {"mean": mean, "spread": spread, "least": sums.energy.least, "most": sums.energy.most}

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        values: dict[str, Any] = {"format": FORMAT, "schema": SCHEMA, "complete": self.complete}
        values["settings"] = self.settings.to_json()
        values["sources"] = [source.to_json() for source in self.sources]
        if not self.complete:
            return values
        values["totals"] = {
            "records": sum(source.records for source in self.sources),
            "frames": sum(shard.frames for shard in self.shards),
            "bad_records": len(self.bad),
            "bytes": sum(shard.lmdb.size + shard.index.size for shard in self.shards),
            "elements": [chemical_symbols[number] for number in self.sums.atomic_numbers],
        }
        values["energies"] = self.energies
        values["E0s"] = self.E0s
        values["bad_records"] = [[bad.source, bad.record, bad.reason] for bad in self.bad]
        values["statistics"] = self.sums.to_json()
        values["shards"] = [shard.to_json() for shard in self.shards]
        return values

    def write(self, folder: Path) -> None:
        """Write it in one piece."""
        # One entry per line: a store of OC20 has thousands of shards.
        lists = {"sources", "bad_records", "shards"}
        lines = []
        values = self.to_json()
        for name, value in (values | {"sha256": _sha256(values)}).items():
            entries = ",\n  ".join(json.dumps(entry) for entry in value) if name in lists else ""
            lines.append(f'"{name}": ' + (f"[\n  {entries}\n]" if entries else json.dumps(value)))
        write_whole(folder / NAME, "{\n" + ",\n".join(lines) + "\n}\n")


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a store.

    Args:
        folder: The store.

    Returns:
        The manifest; it may tell that the store is not complete.

    Raises:
        UserError: If there is none, or a newer program wrote it, or it is damaged.
    """
    path = folder / NAME
    if folder.is_file():
        raise UserError(f"'{folder}' is a file: give the folder of a store, which `mace-gaunt data prepare` makes.")
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{folder} is no store: it has no {NAME}. `mace-gaunt data prepare` makes stores.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{path} is not the manifest of a store.")
    if values.get("schema") != SCHEMA:
        raise UserError(
            f"{path} has schema {values.get('schema')}; this program reads {SCHEMA}. Update it, or prepare anew."
        )
    if values.pop("sha256", None) != _sha256(values):
        raise UserError(f"{path} was changed after it was written: its checksum is another.")
    try:
        return _from_json(values)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def describe(manifest: Manifest) -> str:
    """A store in a few lines."""
    sums, energies = manifest.sums, manifest.energies
    n_bytes = sum(shard.lmdb.size + shard.index.size for shard in manifest.shards)
    lines = [
        f"{sums.frames} frames in {len(manifest.shards)} shards, {n_bytes / 1e6:.1f} MB "
        f"({n_bytes / max(sums.frames, 1):.0f} bytes/frame); {len(manifest.bad)} bad records",
        f"elements {symbols(sums.atomic_numbers)}",
        f"up to {sums.max_atoms} atoms and {2 * sums.max_pairs} edges; "
        f"{2 * sums.pairs / max(sums.atoms, 1):.1f} neighbours within {manifest.settings.r_max:g} Å",
        f"energies of {sums.with_energy}, forces of {sums.with_forces}, stress of {sums.with_stress} frames",
    ]
    if sums.relaxed.count:
        relaxed = sums.relaxed
        lines.append(
            f"relaxed energy of {relaxed.count} frames: mean {relaxed.mean:.4f}, spread {relaxed.spread:.4f} eV"
        )
    if sums.with_energy:
        of = ", minus the linear fit" if manifest.E0s is not None else ""
        lines.append(
            f"energy ({energies['reference']}{of}): mean {energies['mean']:.4f} eV, spread {energies['spread']:.4f} eV"
        )
    return "\n".join(lines)


def _sha256(values: dict[str, Any]) -> str:
    """Of JSON values, however they are laid out."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _from_json(values: dict[str, Any]) -> Manifest:
    manifest = Manifest(
        settings=Settings.from_json(values["settings"]),
        sources=[SourceEntry.from_json(source) for source in values["sources"]],
        complete=values["complete"],
    )
    if not manifest.complete:
        return manifest
    manifest.shards = [ShardFiles.from_json(shard) for shard in values["shards"]]
    manifest.sums = Sums.from_json(values["statistics"])
    manifest.bad = [BadEntry(*bad) for bad in values["bad_records"]]
    manifest.E0s = values["E0s"]
    _check_counts(manifest, values["totals"])
    return manifest


def _check_counts(manifest: Manifest, totals: dict[str, Any]) -> None:
    segments = manifest.segments
    if [shard.number for shard in manifest.shards] != list(range(len(segments))):
        raise ValueError(f"it lists {len(manifest.shards)} shards, but its sources make {len(segments)}")
    frames = sum(shard.frames for shard in manifest.shards)
    if not frames == totals["frames"] == manifest.sums.frames:
        raise ValueError(f"its shards hold {frames} frames, its totals say {totals['frames']}")
    if frames + len(manifest.bad) != sum(source.records for source in manifest.sources):
        raise ValueError("frames and bad records do not add up to the records of its sources")
