"""Join structures into one batch, three times faster than torch_geometric's general way."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from mace_gaunt.data.atomic_data import FIELDS, AtomicData


def collate(frames: Sequence[AtomicData]) -> Batch:
    """What `Batch.from_data_list(frames)` gives, `to_data_list` and indexing included.

    torch_geometric looks at every field in general ways, which takes 1.6 ms for five molecules of 27 atoms (this: 0.5);
    the fields of AtomicData are tensors and strings, and only pair_index counts nodes.

    Args:
        frames: Structures, all with the same fields; none gives a batch without graphs, for a process whose share of
            the data has come to its end.

    Returns:
        The batch, on the device of the frames.
    """
    if not frames:
        return empty_batch()
    batch = Batch(_base_cls=AtomicData)
    sizes = [int(frame.num_nodes) for frame in frames]
    first = [0, *accumulate(sizes)]
    stores = [frame._store for frame in frames]
    out = batch._store
    slices: dict[str, Tensor] = {}
    offsets: dict[str, Tensor | None] = {}
    # Most fields have as many rows as the frames have atoms, or one per frame: those share their starts.
    starts: dict[tuple[int, ...], Tensor] = {}
    for field in stores[0]:
        if field == "num_nodes":
            continue
        values = [store[field] for store in stores]
        if field == "pair_index":
            values = [value + start for value, start in zip(values, first[:-1], strict=True)]
        out[field], lengths = _join(frames[0], field, values)
        if lengths not in starts:
            starts[lengths] = torch.tensor([0, *accumulate(lengths)])
        slices[field] = starts[lengths]
        offsets[field] = torch.tensor(first[:-1]) if field == "pair_index" else None
    device = frames[0].positions.device
    out.num_nodes, out._num_nodes = first[-1], sizes
    out.batch = torch.from_numpy(np.repeat(np.arange(len(frames)), sizes)).to(device)
    out.ptr = torch.tensor(first, device=device)
    batch._num_graphs, batch._slice_dict, batch._inc_dict = len(frames), slices, offsets
    return batch


def empty_batch() -> Batch:
    """A batch of no graph: every field of `FIELDS` with nothing in it."""
    batch = Batch(_base_cls=AtomicData)
    for field, (shape, dtype, _) in FIELDS.items():
        sizes = [int(size) if size.isdigit() else 0 for size in shape.strip("[]").split(", ")]
        batch._store[field] = torch.zeros(sizes, dtype=dtype) if isinstance(dtype, torch.dtype) else []
    batch._store.num_nodes, batch._num_graphs = 0, 0
    batch._store.batch, batch._store.ptr = torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    batch._slice_dict, batch._inc_dict = {}, {}
    return batch


def _join(frame: AtomicData, field: str, values: list[Any]) -> tuple[Any, tuple[int, ...]]:
    """The joined field and how long each member is in it."""
    if not isinstance(values[0], Tensor):
        return values, (1,) * len(values)
    axis = frame.__cat_dim__(field, values[0])
    return torch.cat(values, dim=axis), tuple([value.shape[axis] for value in values])
