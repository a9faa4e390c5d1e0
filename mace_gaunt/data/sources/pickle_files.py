"""Files that are one pickle: graphs, lists and batches of them, by pickle (.pkl) or torch.save (.pt)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase

from mace_gaunt.data.sources.contract import BadRecord, Source
from mace_gaunt.data.sources.graph_records import fields_of, split_batch, structure
from mace_gaunt.data.sources.pickle_names import DATA_NAMES
from mace_gaunt.data.sources.torch_files import OLD_FORMAT, ZIP_FORMAT, load_old, load_zip
from mace_gaunt.data.sources.unpickle import load_plain
from mace_gaunt.errors import UserError


class PickledGraphs(Source):
    """A pickle of one graph of torch_geometric, a batch, or a list of graphs or batches."""

    format = "pickled graphs"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._length = len(_graphs(path))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"cannot read {path}: {error}") from error
        if not self._length:
            raise UserError(f"no structures in {path}.")

    def __len__(self) -> int:
        return self._length

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[ase.Atoms | BadRecord]:
        for index, fields in list(enumerate(_graphs(self.path)))[start:stop]:
            if isinstance(fields, str):
                yield BadRecord(self.path, index, fields)
                continue
            try:
                yield structure(fields)
            except (ValueError, TypeError) as error:
                yield BadRecord(self.path, index, str(error))


def _graphs(path: Path) -> list[dict[str, Any] | str]:
    """The attributes of every graph in a file, or why there are none.

    Raises:
        ValueError: If it asks for anything but plain data.
    """
    found = _load(path)
    if isinstance(found, dict):
        raise ValueError("it holds a table, not graphs")
    graphs: list[dict[str, Any] | str] = []
    for item in found if isinstance(found, list | tuple) else [found]:
        try:
            fields = fields_of(item)
            graphs += split_batch(fields) if "ptr" in fields or "batch" in fields else [fields]
        except (ValueError, TypeError) as error:
            graphs.append(str(error))
    return graphs


def _load(path: Path) -> Any:
    data = path.read_bytes()
    if data.startswith(ZIP_FORMAT):
        return load_zip(path, DATA_NAMES)
    return load_old(data, DATA_NAMES) if data.startswith(OLD_FORMAT) else load_plain(data, DATA_NAMES)
