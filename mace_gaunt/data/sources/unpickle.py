"""A restricted unpickler: it builds numbers, text, lists, dictionaries, arrays and attribute bags, and nothing else.

It is an interpreter of its own: Python's would call what a pickle names, and `torch.load` what torch allows. Here a
name stands for an entry of a table (`pickle_names`) whose functions are ours; a name that is not in it, and an
operation that plain data does not need, refuse the pickle before anything is built. Sizes are bounded by the bytes that
are there. Source: PEP 307, PEP 3154 and PEP 574 (protocols 2 to 5), Lib/pickletools.py.
"""

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any

from mace_gaunt.data.sources.pickle_objects import Bag, DamagedPickleError, Name, RefusedPickleError
from mace_gaunt.data.sources.pickle_operations import (
    CONSTANTS,
    MARK,
    MEMOIZE,
    NUMBERS,
    RECALLS,
    REMEMBERS,
    STEPS,
    STOP,
)

# Keys are hashed: of these types that is quick, and cannot recurse.
KEY_TYPES = (str, int, bool, bytes, float, type(None))
OPERATIONS = {ord(operation.code): operation.name for operation in pickletools.opcodes}
MAX_INTEGER_BYTES = 64


def load_plain(data: bytes, names: Mapping[tuple[str, str], Name]) -> Any:
    """The object of a pickle that fills the data.

    Args:
        data: The pickle.
        names: What it may name.

    Raises:
        RefusedPickleError: If it asks for anything but plain data; names it.
        DamagedPickleError: If it is cut off, makes no sense, or something follows it.
    """
    reader = Unpickler(data, names)
    found = reader.load()
    if reader.position != len(data):
        raise DamagedPickleError(f"{len(data) - reader.position} bytes follow the pickle")
    return found


class Unpickler:
    """Reads one pickle of plain data.

    Attributes:
        position: The byte behind the pickle, once it is read.
    """

    def __init__(
        self,
        data: bytes | memoryview,
        names: Mapping[tuple[str, str], Name],
        persistent: Callable[[Any], Any] | None = None,
        position: int = 0,
    ) -> None:
        """Keep the arguments.

        Args:
            data: The pickle, maybe with something behind it.
            names: What it may name, by module and name.
            persistent: What it means by an object that is stored elsewhere; None refuses these.
            position: Where in the data it begins.
        """
        self.position = position
        self._data = memoryview(data)
        self._names, self._persistent = names, persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        # What was named once can be used again and again: calls may cost no more than a few times the bytes there are.
        self._budget = 4 * len(data) + 10_000

    def load(self) -> Any:
        """The object.

        Returns:
            None, bool, int, float, str, bytes, list, tuple, dict, Name, Bag, or what the functions of the names return.

        Raises:
            RefusedPickleError: If it names or asks for anything else; names it.
            DamagedPickleError: If it is cut off or makes no sense.
        """
        try:
            return self._run()
        except RefusedPickleError:
            raise
        except (IndexError, KeyError, struct.error, ValueError, TypeError, OverflowError, AttributeError) as error:
            reason = f"the pickle is damaged near byte {self.position} ({type(error).__name__})"
            raise DamagedPickleError(reason) from error

    def _run(self) -> Any:
        # The operations that fill a pickle of tensors are done here, without a call each; it takes half the time.
        data, stack, memo = self._data, self._stack, self._memo
        position = self.position
        while True:
            code = data[position]
            position += 1
            if code in NUMBERS:
                layout = NUMBERS[code]
                stack.append(layout.unpack_from(data, position)[0])
                position += layout.size
            elif code == MEMOIZE:
                memo[len(memo)] = stack[-1]
            elif code in RECALLS:
                layout = RECALLS[code]
                stack.append(memo[layout.unpack_from(data, position)[0]])
                position += layout.size
            elif code in REMEMBERS:
                layout = REMEMBERS[code]
                memo[layout.unpack_from(data, position)[0]] = stack[-1]
                position += layout.size
            elif code in CONSTANTS:
                stack.append(CONSTANTS[code])
            elif code == STOP:
                self.position = position
                return self.pop()
            elif code in STEPS:
                self.position = position
                STEPS[code](self)
                position = self.position
            else:
                raise RefusedPickleError(f"it uses {OPERATIONS.get(code, code)}, which plain data do not need")

    def take(self, size: int) -> memoryview:
        """The next bytes."""
        if size < 0 or self.position + size > len(self._data):
            raise IndexError("beyond the end")
        self.position += size
        return self._data[self.position - size : self.position]

    def skip(self, size: int) -> None:
        self.take(size)

    def number(self, layout: struct.Struct) -> Any:
        (value,) = layout.unpack_from(self._data, self.position)
        self.position += layout.size
        return value

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is MARK:
            raise IndexError("mark")
        return value

    def top(self) -> Any:
        return self._stack[-1]

    def drop(self) -> None:
        self._stack.pop()

    def drop_to_mark(self) -> None:
        self.pop_to_mark()

    def pop_to_mark(self) -> list[Any]:
        """What was pushed since the last mark."""
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is MARK:
                items = self._stack[index + 1 :]
                del self._stack[index:]
                return items
        raise IndexError("no mark")

    def pop_many(self, count: int) -> tuple[Any, ...]:
        items = tuple(self._stack[-count:])
        if len(items) != count or any(item is MARK for item in items):
            raise IndexError("mark")
        del self._stack[-count:]
        return items

    def line(self) -> str:
        """Text up to the end of the line."""
        end = bytes(self._data[self.position : self.position + 300]).index(b"\n")
        return str(self.take(end + 1)[:-1], "utf-8")

    def spend(self, value: Any) -> None:
        """Count the work on a value against the bytes of the pickle."""
        self._budget -= len(value) if isinstance(value, str | bytes | list | dict | tuple) else 1
        if self._budget < 0:
            raise RefusedPickleError("it is far larger unpacked than packed")

    def find(self, module: Any, name: Any) -> Name:
        """What a name stands for."""
        if type(module) is not str or type(name) is not str:
            raise TypeError("name")
        found = self._names.get((module, name))
        if found is None:
            title = "".join(letter if letter.isprintable() else "?" for letter in f"{module}.{name}"[:100])
            raise RefusedPickleError(f"it asks for {title}, which is no plain data; none of it was run")
        return found

    def call(self) -> None:
        """REDUCE: a function and its arguments -> its result."""
        function, arguments = self.pop_many(2)
        bag_called = isinstance(function, Bag)
        name = function.name if bag_called else function
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise TypeError("call")
        if name.call is None or bag_called != name.creates_bag:
            raise RefusedPickleError(f"it calls {name.title}, which plain data do not")
        for argument in arguments:
            self.spend(argument)
        self.push(name.call(*arguments))

    def create(self) -> None:
        """NEWOBJ: a class and arguments -> an empty bag."""
        name, arguments = self.pop_many(2)
        if not isinstance(name, Name) or not name.creates_bag or type(arguments) is not tuple or arguments:
            raise RefusedPickleError(f"it makes an object of {getattr(name, 'title', 'something else')} by arguments")
        self.push(Bag(name))

    def build(self) -> None:
        """BUILD: an object and its state; a bag takes its attributes, an array its values."""
        state = self.pop()
        target = self.top()
        if isinstance(target, Bag):
            for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
                if part is not None:
                    self.spend(part)
                    target.attributes.update(_attributes(part))
        elif hasattr(target, "set_state"):
            target.set_state(state)
        else:
            raise RefusedPickleError(f"it sets the state of a {type(target).__name__}")

    def persist(self) -> None:
        """BINPERSID: an object that is stored elsewhere."""
        if self._persistent is None:
            raise RefusedPickleError("it refers to an object outside of it")
        self.push(self._persistent(self.pop()))

    def set_items(self, pairs: list[Any]) -> None:
        target = self.top()
        if type(target) is not dict or len(pairs) % 2:
            raise TypeError("items")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if type(key) not in KEY_TYPES:
                raise RefusedPickleError(f"a key of a dictionary is a {type(key).__name__}")
            target[key] = value

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not list:
            raise TypeError("append")
        target.extend(items)

    def dictionary(self, pairs: list[Any]) -> None:
        self.push({})
        self.set_items(pairs)

    def text(self, size: int) -> None:
        self.push(str(self.take(size), "utf-8", "surrogatepass"))

    def integer(self, size: int) -> None:
        if size > MAX_INTEGER_BYTES:
            raise ValueError("integer")
        self.push(int.from_bytes(self.take(size), "little", signed=True))


def _attributes(part: Any) -> dict[str, Any]:
    if type(part) is not dict or not all(type(key) is str for key in part):
        raise TypeError("state")
    return part
