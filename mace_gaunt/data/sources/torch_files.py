"""What `torch.save` writes, in its two formats, without torch: an old one of several pickles, and a zip archive."""

import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mace_gaunt.data.sources.pickle_objects import DamagedPickleError, Name, RefusedPickleError
from mace_gaunt.data.sources.plain_arrays import Storage
from mace_gaunt.data.sources.unpickle import Unpickler

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# A pickle of MAGIC, as every file of the old format begins.
OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# This, PROTOCOL and the facts about the machine, as every usual machine writes them.
USUAL_HEADER = OLD_FORMAT + (
    b"\x80\x02M\xe9\x03.\x80\x02}q\x00(X\x10\x00\x00\x00protocol_versionq\x01M\xe9\x03X\r\x00\x00\x00little_endianq\x02\x88"
    b"X\n\x00\x00\x00type_sizesq\x03}q\x04(X\x05\x00\x00\x00shortq\x05K\x02X\x03\x00\x00\x00intq\x06K\x04X\x04\x00\x00\x00longq\x07K\x04uu."
)
ZIP_FORMAT = b"PK\x03\x04"
COUNT = struct.Struct("<q")

Names = Mapping[tuple[str, str], Name]


def load_old(data: bytes, names: Names) -> Any:
    """The object in a file of the old format, or in the bytes in which a tensor pickled by itself keeps its storage.

    Format: pickles of MAGIC, PROTOCOL, facts about the machine, the object, and the list of storages; then for each
    storage its number of elements and these.

    Args:
        data: The bytes.
        names: What the pickle of the object may name.

    Raises:
        RefusedPickleError: If it asks for anything but plain data.
        DamagedPickleError: If it is cut off or makes no sense.
    """
    storages: dict[str, Storage] = {}
    room = len(data)

    def find(identifier: Any) -> Storage:
        nonlocal room
        key, dtype, count = _storage_identifier(identifier)
        if key not in storages:
            room -= count * dtype.itemsize
            if room < 0:
                raise DamagedPickleError("its storages are larger than the data")
            storages[key] = Storage(np.zeros(count, dtype))
        return storages[key]

    content, position = _next(data, _skip_header(data), names, find)
    keys, position = _next(data, position, {})
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(storages):
        raise DamagedPickleError("its storages are not those it lists")
    for key in keys:
        position = _fill(storages[key].values, data, position)
    return content


def _next(data: bytes, position: int, names: Names, persistent: Callable[[Any], Any] | None = None) -> tuple[Any, int]:
    """One pickle of several, and the position behind it."""
    reader = Unpickler(data, names, persistent, position)
    return reader.load(), reader.position


def _skip_header(data: bytes) -> int:
    """The position behind the first three pickles."""
    if data.startswith(USUAL_HEADER):
        return len(USUAL_HEADER)
    magic, position = _next(data, 0, {})
    protocol, position = _next(data, position, {})
    machine, position = _next(data, position, {})
    if (
        magic != MAGIC
        or protocol != PROTOCOL
        or not isinstance(machine, dict)
        or machine.get("little_endian") is not True
    ):
        raise DamagedPickleError("it does not begin as torch.save writes it")
    return position


def _fill(values: np.ndarray, data: bytes, position: int) -> int:
    """Read one storage; the position behind it."""
    if position + COUNT.size > len(data) or COUNT.unpack_from(data, position)[0] != len(values):
        raise DamagedPickleError("the number of elements of a storage is not the one announced")
    position += COUNT.size
    if position + values.nbytes > len(data):
        raise DamagedPickleError("it is cut off in a storage")
    values[:] = np.frombuffer(data, values.dtype, len(values), position)
    return position + values.nbytes


def load_zip(path: Path, names: Names) -> Any:
    """The object in a file of the zip format.

    Args:
        path: The file.
        names: What its pickle may name.

    Raises:
        RefusedPickleError: If it asks for anything but plain data, or is compressed.
        DamagedPickleError: If it is cut off or makes no sense.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _load_archive(archive, path.stat().st_size, names)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
        raise DamagedPickleError(f"the archive is damaged: {error}") from error


def _load_archive(archive: zipfile.ZipFile, size: int, names: Names) -> Any:
    members = {member.filename: member for member in archive.infolist()}
    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise RefusedPickleError("it is a zip archive, but not one that torch.save writes")
    folder = pickles[0].removesuffix("data.pkl")
    if any(m.compress_type != zipfile.ZIP_STORED or m.file_size != m.compress_size for m in members.values()):
        raise RefusedPickleError("the archive is compressed, which torch.save does not do")
    # No member twice: a small archive must not become large.
    room = size

    def read(name: str) -> bytes:
        nonlocal room
        if name not in members:
            raise DamagedPickleError(f"the archive has no {name}")
        room -= members[name].file_size
        if room < 0:
            raise DamagedPickleError("the members of the archive are larger than the file")
        return archive.read(name)

    if f"{folder}byteorder" in members and read(f"{folder}byteorder") != b"little":
        raise RefusedPickleError("its numbers are in another byte order")
    storages: dict[str, Storage] = {}

    def find(identifier: Any) -> Storage:
        key, dtype, count = _storage_identifier(identifier)
        if key not in storages:
            content = read(f"{folder}data/{key}")
            if len(content) != count * dtype.itemsize:
                raise DamagedPickleError(
                    f"{folder}data/{key} has {len(content)} bytes instead of {count * dtype.itemsize}"
                )
            storages[key] = Storage(np.frombuffer(content, dtype))
        return storages[key]

    return Unpickler(read(pickles[0]), names, find).load()


def _storage_identifier(identifier: Any) -> tuple[str, np.dtype, int]:
    """Key, dtype and number of elements of ("storage", type, key, place, count[, None])."""
    if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[5:] not in ((), (None,)):
        raise RefusedPickleError("it refers to an object outside of it")
    kind, name, key, _, count = identifier[:5]
    if kind != "storage" or not isinstance(name, Name) or name.dtype is None:
        raise RefusedPickleError("it refers to an object outside of it that is not stored numbers")
    if not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 40:
        raise DamagedPickleError("a storage has no key or number of elements")
    return key, name.dtype, count
