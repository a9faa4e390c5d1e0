"""The operations of pickles that plain data need, and what each of them does. Every other one is refused.

Source: Lib/pickletools.py. Left out are the text of protocol 0, INST, OBJ, NEWOBJ_EX, PERSID, EXT, sets, and buffers
outside of a pickle.
"""

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mace_gaunt.data.sources.unpickle import Unpickler

MARK = object()

_U1, _U2, _I4, _U4, _U8 = (struct.Struct(f"<{kind}") for kind in "BHiIQ")
_F8 = struct.Struct(">d")

STOP, MEMOIZE = ord("."), 0x94
NUMBERS = {ord("K"): _U1, ord("M"): _U2, ord("J"): _I4, ord("G"): _F8}
RECALLS = {ord("h"): _U1, ord("j"): _U4}
REMEMBERS = {ord("q"): _U1, ord("r"): _U4}
CONSTANTS: dict[int, Any] = {ord("("): MARK, ord("N"): None, ord(")"): (), 0x88: True, 0x89: False}

# The other operations.
STEPS: dict[int, Callable[["Unpickler"], None]] = {
    0x80: lambda u: u.skip(1),  # PROTO
    0x95: lambda u: u.skip(8),  # FRAME
    ord("0"): lambda u: u.drop(),
    ord("1"): lambda u: u.drop_to_mark(),
    ord("2"): lambda u: u.push(u.top()),  # DUP
    0x8A: lambda u: u.integer(u.number(_U1)),  # LONG1
    0x8B: lambda u: u.integer(u.number(_U4)),  # LONG4
    ord("X"): lambda u: u.text(u.number(_U4)),
    0x8C: lambda u: u.text(u.number(_U1)),
    0x8D: lambda u: u.text(u.number(_U8)),
    ord("B"): lambda u: u.push(bytes(u.take(u.number(_U4)))),
    ord("C"): lambda u: u.push(bytes(u.take(u.number(_U1)))),
    0x8E: lambda u: u.push(bytes(u.take(u.number(_U8)))),
    0x96: lambda u: u.push(bytes(u.take(u.number(_U8)))),  # BYTEARRAY8
    ord("]"): lambda u: u.push([]),
    ord("}"): lambda u: u.push({}),
    0x85: lambda u: u.push(u.pop_many(1)),
    0x86: lambda u: u.push(u.pop_many(2)),
    0x87: lambda u: u.push(u.pop_many(3)),
    ord("t"): lambda u: u.push(tuple(u.pop_to_mark())),
    ord("l"): lambda u: u.push(u.pop_to_mark()),
    ord("d"): lambda u: u.dictionary(u.pop_to_mark()),
    ord("a"): lambda u: u.extend([u.pop()]),
    ord("e"): lambda u: u.extend(u.pop_to_mark()),
    ord("s"): lambda u: u.set_items(list(u.pop_many(2))),
    ord("u"): lambda u: u.set_items(u.pop_to_mark()),
    ord("c"): lambda u: u.push(u.find(u.line(), u.line())),
    0x93: lambda u: u.push(u.find(*u.pop_many(2))),  # STACK_GLOBAL
    ord("R"): lambda u: u.call(),
    0x81: lambda u: u.create(),
    ord("b"): lambda u: u.build(),
    ord("Q"): lambda u: u.persist(),
}
