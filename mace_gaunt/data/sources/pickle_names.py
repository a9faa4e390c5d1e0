"""What pickles of structures may name, and what is built for it: attribute bags, arrays, dictionaries."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mace_gaunt.data.sources.pickle_objects import Bag, Name, RefusedPickleError
from mace_gaunt.data.sources.plain_arrays import NumpyArray, NumpyType, numpy_array, numpy_scalar, tensor
from mace_gaunt.data.sources.torch_files import load_old

STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
STORAGE_NAMES = {("torch", kind): Name(f"torch.{kind}", dtype=np.dtype(dtype)) for kind, dtype in STORAGES.items()}

# Classes of torch_geometric, under the modules of its versions 1.3 to 2.8.
DATA_CLASSES = (
    ("torch_geometric.data.data", "Data"),
    ("torch_geometric.data.data", "DataEdgeAttr"),
    ("torch_geometric.data.data", "DataTensorAttr"),
    ("torch_geometric.data.batch", "Batch"),
    ("torch_geometric.data.batch", "DataBatch"),
    ("torch_geometric.data.storage", "BaseStorage"),
    ("torch_geometric.data.storage", "GlobalStorage"),
    ("torch_geometric.data.storage", "NodeStorage"),
    ("torch_geometric.data.storage", "EdgeStorage"),
)
BATCH_CLASS = ("torch_geometric.data.batch", "DynamicInheritanceGetter")


def _storage(data: Any) -> Any:
    if not isinstance(data, bytes):
        raise RefusedPickleError("it makes a storage of something that is not bytes")
    return load_old(data, STORAGE_NAMES)


def _batch(*classes: Any) -> Bag:
    """A batch, whose class is made when it is unpickled: from the class of batches and that of what it joins."""
    if not classes or not all(isinstance(name, Name) and name.creates_bag for name in classes):
        raise RefusedPickleError("it makes a batch of something that is not a graph")
    return Bag(classes[0])


def _array(*_: Any) -> NumpyArray:
    return NumpyArray()


def _dictionary(pairs: Any = ()) -> dict[Any, Any]:
    """OrderedDict: empty, or of pairs, whose keys are text or numbers."""
    if isinstance(pairs, Name):  # defaultdict(dict)
        return {}
    if not isinstance(pairs, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        raise ValueError("pairs")
    if not all(type(key) in (str, int) for key, _ in pairs):
        raise RefusedPickleError("a key of a dictionary is neither text nor a number")
    return dict(pairs)


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes, as protocol 2 writes them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise RefusedPickleError("it encodes something that is not bytes")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Empty bytes, as protocol 2 writes them."""
    return b""


def _size(sizes: Any = ()) -> tuple[Any, ...]:
    return tuple(sizes)


# Where several versions of numpy keep the functions that rebuild arrays.
_ARRAYS = (
    ("multiarray", "_reconstruct", _array),
    ("multiarray", "scalar", numpy_scalar),
    ("numeric", "_frombuffer", numpy_array),
)
_FUNCTIONS: dict[tuple[str, str], Callable[..., Any] | None] = {
    ("torch._utils", "_rebuild_tensor"): tensor,
    ("torch._utils", "_rebuild_tensor_v2"): tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch", "Size"): _size,
    ("collections", "OrderedDict"): _dictionary,
    ("collections", "defaultdict"): _dictionary,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    ("numpy", "dtype"): NumpyType,
    ("numpy", "ndarray"): None,
    ("builtins", "dict"): None,
    ("__builtin__", "dict"): None,
    **{(f"{package}.{module}", name): f for package in ("numpy.core", "numpy._core") for module, name, f in _ARRAYS},
}

DATA_NAMES: dict[tuple[str, str], Name] = (
    STORAGE_NAMES
    | {key: Name(".".join(key), call) for key, call in _FUNCTIONS.items()}
    | {key: Name(".".join(key), creates_bag=True) for key in DATA_CLASSES}
    | {BATCH_CLASS: Name(".".join(BATCH_CLASS), _batch, creates_bag=True)}
)
