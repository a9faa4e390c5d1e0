"""The restricted unpickler: plain data come out, hostile pickles are refused by name and nothing of them runs."""

import builtins
import collections
import io
import os
import pickle
import re
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from oc20_files import graph_fields, make_slab, pickle_graph, write_list, write_lmdb

from mace_gaunt.data.sources.contract import BadRecord
from mace_gaunt.data.sources.discovery import open_source
from mace_gaunt.data.sources.graph_records import fields_of
from mace_gaunt.data.sources.pickle_names import DATA_NAMES
from mace_gaunt.data.sources.pickle_objects import DamagedPickleError, RefusedPickleError
from mace_gaunt.data.sources.plain_arrays import NumpyArray
from mace_gaunt.data.sources.unpickle import load_plain
from mace_gaunt.errors import UserError


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments, state=None):
        self.result = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.result


def load(data):
    return load_plain(data, DATA_NAMES)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data(protocol):
    plain = {
        "none": None,
        "flags": [True, False],
        "numbers": (0, 255, 256, 70000, -5, 2**40, -(2**70), 1.5),
        "text": "Å" * 300,
        "bytes": b"\x00\xff" * 200,
        "nested": {1: [(), [], {}], "deep": [[["x"]]]},
        "ordered": collections.OrderedDict([("a", 1)]),
        "size": torch.Size([2, 3]),
    }
    found = load(pickle.dumps(plain, protocol))
    assert found == plain
    assert type(found["ordered"]) is dict and type(found["size"]) is tuple


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool", "complex64"]
)
def test_arrays_of_numpy(protocol, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    for expected in (array, np.asfortranarray(array), array[:, :0], array[0, 0]):
        found = load(pickle.dumps(expected, protocol))
        found = found.values if isinstance(found, NumpyArray) else np.array(found, dtype)
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.bool])
def test_tensors(dtype):
    base = torch.arange(24).reshape(2, 3, 4).to(dtype)
    for tensor in (base, base.transpose(0, 2), base[1:, ::2], base[0, 0, 0], base[:0], base[:1].expand(5, 3, 4)):
        found = load(pickle.dumps({"a": tensor, "b": [tensor]}))
        for value in (found["a"], found["b"][0]):
            assert value.shape == tuple(tensor.shape)
            np.testing.assert_array_equal(value, tensor.numpy())


def hostile(sentinel: Path) -> dict[str, object]:
    """By what the message must say: objects whose unpickling by Python would make the file, or run other code."""
    touch = f"touch {sentinel}"
    old, new = io.BytesIO(), io.BytesIO()
    torch.save(Call(os.system, touch), old, _use_new_zipfile_serialization=False)
    torch.save(Call(os.system, touch), new)
    return {
        "posix.system,": Call(os.system, touch),
        ".eval,": Call(builtins.eval, f"open({str(sentinel)!r}, 'w')"),
        ".exec,": Call(builtins.exec, f"open({str(sentinel)!r}, 'w')"),
        "io.open,": Call(builtins.open, str(sentinel), "w"),
        ".getattr,": Call(builtins.getattr, Call(builtins.getattr, "", "__class__"), "mro"),
        ".__import__,": Call(builtins.__import__, "antigravity"),
        ".check_call,": Call(subprocess.check_call, ["touch", str(sentinel)]),
        "torch.serialization.load,": Call(torch.load, io.BytesIO(new.getvalue())),
        "pickle.loads,": Call(pickle.loads, pickle.dumps(Call(os.system, touch), 2)),
        # The inside of a storage is a pickle as well.
        "asks for posix.system": Call(torch.storage._load_from_bytes, old.getvalue()),
        "dtype O8": np.array([Call(os.system, touch)], dtype=object),
        "ase.atoms.Atoms,": Atoms("H"),
        "torch.nn.modules.linear.Linear,": torch.nn.Linear(1, 1),
    }


NAMES = list(hostile(Path("nowhere")))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("protocol", [2, 5])
def test_hostile_objects_are_refused_and_do_not_run(tmp_path, name, protocol):
    sentinel = tmp_path / "sentinel"
    found = hostile(sentinel)[name]
    for place in (found, [[found]], {"pos": found}, {"_store": {"_mapping": {"y": (found,)}}}):
        with pytest.raises(RefusedPickleError, match=re.escape(name)):
            load(pickle.dumps(place, protocol))
    assert not sentinel.exists()


@pytest.mark.parametrize("field", ["pos", "energy", "sid", "natoms", "anything"])
@pytest.mark.parametrize("generation", ["1", "2.0", "2.3"])
def test_hostile_record_in_an_lmdb(tmp_path, field, generation):
    sentinel = tmp_path / "sentinel"
    slabs = [make_slab(i) for i in range(3)]
    records = [pickle_graph(graph_fields(slab), generation) for slab in slabs]
    records[1] = pickle_graph(graph_fields(slabs[1]) | {field: Call(os.system, f"touch {sentinel}")}, generation)
    path = write_lmdb(tmp_path / "data.lmdb", {b"%d" % i: record for i, record in enumerate(records)})
    found = list(open_source(path).read())
    assert [isinstance(record, BadRecord) for record in found] == [False, True, False]
    assert str(found[1]).startswith(f"{path}, record 1: key 1: it asks for posix.system")
    assert not sentinel.exists()


def test_hostile_files(tmp_path):
    sentinel = tmp_path / "sentinel"
    evil = Call(os.system, f"touch {sentinel}")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([evil]))
    torch.save({"pos": evil}, tmp_path / "zip.pt")
    torch.save({"pos": evil}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    write_list(tmp_path / "good.pkl", [make_slab()])
    for name in ("a.pkl", "zip.pt", "old.pt"):
        with pytest.raises(UserError, match=rf"{name}: it asks for posix.system"):
            open_source(tmp_path / name)
    assert len(open_source(tmp_path / "good.pkl")) == 1
    assert not sentinel.exists()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


DATA = b"ctorch_geometric.data.data\nData\n"
REFUSED = {
    "INST": b"(" + text("true") + b"ios\nsystem\n.",
    "OBJ": b"(cos\nsystem\n" + text("true") + b"o.",
    "class called by OBJ": b"(" + DATA + b"o.",
    "class called": DATA + b")R.",
    "class made with arguments": DATA + text("x") + b"\x85\x81.",
    "state of a class": DATA + b"}b.",
    "state of a number": b"K\x01}b.",
    "EXT1": b"\x82\x01.",
    "PERSID": b"Pos\n.",
    "BINPERSID": text("os") + b"Q.",
    "dotted name": text("torch_geometric.data.data") + text("Data.__init__.__globals__") + b"\x93.",
    "name of a module": text("torch_geometric.data") + text("data") + b"\x93.",
    "copyreg": b"ccopyreg\n_reconstructor\n(" + DATA + b"cbuiltins\nobject\nNtR.",
    "text of protocol 0": b"S'x'\n.",
    "NEWOBJ_EX": DATA + b")}\x92.",
    "buffers outside": b"\x97.",
    "key of a dictionary": b"}" + b")" + b"\x85" * 50_000 + b"K\x01s.",
    "dtype of objects": b"cnumpy\ndtype\n" + text("O8") + b"\x85R.",
    "dtype with fields": b"cnumpy\ndtype\n" + text("f4") + b"\x85R(K\x03" + text("<") + b"N}NJ\xff\xff\xff\xffK\x00tb.",
    "storage of something else": b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))\x89NtR.",
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_operations_that_plain_data_do_not_need(name):
    with pytest.raises(RefusedPickleError):
        load(b"\x80\x02" + REFUSED[name])


DAMAGED = {
    "empty": b"",
    "no stop": b"\x80\x02K\x01",
    "nothing on the stack": b"\x80\x02.",
    "only a mark": b"\x80\x02(.",
    "no mark": b"\x80\x02t.",
    "recall of nothing": b"\x80\x02h\x07.",
    "more text than there is": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "more bytes than there are": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7fabc.",
    "large integer": b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
    "no name": b"\x80\x02cos.",
    "items of a number": b"\x80\x02K\x01(K\x01K\x02u.",
    "odd items": b"\x80\x02}(K\x01u.",
    "not utf-8": b"\x80\x02X\x01\x00\x00\x00\xff.",
    "something behind": b"\x80\x02N.N.",
    "remembered from an empty stack": b"\x80\x02r\xff\xff\xff\xff.",
}


@pytest.mark.parametrize("name", list(DAMAGED))
def test_damaged_pickles(name):
    with pytest.raises(DamagedPickleError):
        load(DAMAGED[name])


def test_tensors_beyond_their_storage():
    data = pickle.dumps(torch.arange(6, dtype=torch.float32).reshape(2, 3))
    assert load(data).shape == (2, 3)
    for wrong in (b"K\x03K\x03\x86", b"K\x07K\x01\x86", b"\x8a\x08" + b"\xff" * 7 + b"\x0fK\x01\x86"):
        with pytest.raises(DamagedPickleError):
            load(data.replace(b"K\x02K\x03\x86", wrong))
    # An expanded tensor may be larger than its storage, but not without bound.
    huge = pickle.dumps(torch.zeros(1).expand(50_000, 50_000))
    with pytest.raises(RefusedPickleError, match="far larger unpacked"):
        load(huge)


def test_what_is_named_once_cannot_be_used_without_bound():
    encode = b"\x80\x02c_codecs\nencode\nq\x00" + text("x" * 100_000) + b"q\x01" + b"h\x00h\x01\x85R" * 50_000 + b"."
    update = b"\x80\x02" + DATA + b")\x81}(" + b"".join(text(f"k{i}") + b"K\x00" for i in range(5000)) + b"uq\x00b"
    for bomb in (encode, update + b"h\x00b" * 100_000 + b"."):
        with pytest.raises(RefusedPickleError, match="far larger unpacked"):
            load(bomb)
    # To name it again and again costs nothing.
    assert len(load(b"\x80\x02" + text("x" * 100_000) + b"q\x00(" + b"h\x00" * 10_000 + b"t.")) == 10_000


def test_deep_nesting_is_no_problem():
    found = load(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")
    assert len(found) == 1
    with pytest.raises(ValueError, match="not a graph"):
        fields_of(found)
