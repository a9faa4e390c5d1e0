"""Whatever a user writes is read or refused with a UserError: parsers of keys, values, times, ranges, slices."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mutations import bounded

from mace_gaunt.benchmark.keys import Key, choices, flag, integer, integers, positive, read_pairs, split, word, words
from mace_gaunt.cli.aliases import hidden_irreps_to_keys
from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.data_keys import read_words
from mace_gaunt.cli.request import split_slice as split_text
from mace_gaunt.cli.values import parse_value
from mace_gaunt.comparison.budget import read_budget, read_seconds
from mace_gaunt.data.diversity import parse_orders
from mace_gaunt.data.readers import split_slice
from mace_gaunt.data.reference_energies import given_energies
from mace_gaunt.data.statistics import check_overrides
from mace_gaunt.errors import UserError
from mace_gaunt.interop.lammps_script import parse_elements

# Texts out of pieces that mean something to one of the parsers, and any text.
PIECES = st.sampled_from(
    [*"[]{}()<>,:;=.-+~*'\"\\$#%&|!/ \t\n", *"0159", *"eHOxskm", "..", "e400", "nan", "inf", "null", "true", "min", "h",
     "1e-3", "9" * 20, "9" * 5000, "٣", "½", "é", "\0", "\ud800", "${", "range(", "x0e", "+", "--", "~root", "[" * 60]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=12)
KEYS = {"n": Key(integer(1), ""), "l": Key(integers(0), ""), "r": Key(positive, ""), "f": Key(flag, "")}

PARSERS: dict[str, Callable[[str], Any]] = {
    "value": parse_value,
    "integers": integers(0),
    "integer": integer(0),
    "positive": positive,
    "flag": flag,
    "word": word,
    "words": words,
    "split": split,
    "choices": choices("gaunt", "matrix"),
    "seconds": read_seconds,
    "budget": lambda text: read_budget(text, None),
    "orders": lambda text: parse_orders([text]),
    "elements": parse_elements,
    "irreps": hidden_irreps_to_keys,
    "slice": split_slice,
    "slice of text": split_text,
    "pairs": lambda text: read_pairs([text.partition("=")[::2]], KEYS, "benchmark"),
    "arguments": lambda text: parse_arguments(text.split()),
    "words of data": lambda text: read_words(text.split(), "data inspect"),
    "energies": lambda text: given_energies({text: text, "H": text}, [1]),
    "statistics": lambda text: check_overrides({"scale": text, text: 1.0}),
}


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=TEXTS)
@example(text="1..99999999999")
@example(text="9" * 5000)
@example(text="9" * 400 + "s")
@example(text="a.xyz[-]")
@example(text="a.xyz[::0]")
@example(text="a.xyz[" + "9" * 5000 + ":]")
@example(text="~nobody_of_that_name/a.xyz")
@example(text="a" * 5000)
@example(text="9" * 5000 + "x0e")
@example(text="a" * 5000 + ".yaml")
@example(text="[" * 3000)
@example(text="[" * 3000 + "]" * 3000)
@example(text="{a: " * 3000)
@example(text="²")
@example(text="1" * 5000 + "," + "2" * 5000)
def test_any_text_is_read_or_refused(name, text):
    with bounded():
        try:
            PARSERS[name](text)
        except UserError as error:
            assert str(error)


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 300), min_size=1, max_size=12))
def test_numbers_and_ranges_come_back(numbers):
    ordered = sorted(numbers)
    assert (
        integers(0)(",".join(map(str, numbers))) == integers(0)(f"[{', '.join(map(str, ordered))}]") == tuple(ordered)
    )
    assert integers(0)(f"{ordered[0]}..{ordered[-1]}") == tuple(range(ordered[0], ordered[-1] + 1))


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-3, 1e6), st.sampled_from([("s", 1.0), ("min", 60.0), ("h", 3600.0)]))
def test_times_come_back(number, unit):
    """And one that is no finite number of seconds is refused."""
    assert read_seconds(f"{number:f}{unit[0]}") == pytest.approx(float(f"{number:f}") * unit[1])
    with pytest.raises(UserError, match="not a positive time"):
        read_seconds("9" * 400 + unit[0])


BOUNDS = st.none() | st.integers(-50, 50)


@settings(max_examples=100, deadline=None)
@given(BOUNDS, BOUNDS, st.none() | st.integers(-5, 5).filter(bool))
def test_slices_come_back(start, stop, step):
    text = ":".join("" if part is None else str(part) for part in (start, stop, *([] if step is None else [step])))
    path, chosen = split_slice(f"frames.xyz[{text}]")
    assert str(path) == "frames.xyz"
    assert list(range(30))[chosen] == list(range(30))[start:stop:step]


WORDS = st.text("abcdefgh", min_size=1, max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS.map(str.title), inner, max_size=3),
    max_leaves=8,
)


def written(value: Any) -> str:
    """A value as a user writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, str):
        return f"'{value}'"
    return "null" if value is None else str(value).lower()


@settings(max_examples=100, deadline=None)
@given(PLAIN)
def test_values_come_back(value):
    found = parse_value(written(value))
    assert repr(found) == repr(value)
