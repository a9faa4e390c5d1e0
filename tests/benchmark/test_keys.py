"""How the keys of the benchmarks are read, and what becomes of them."""

import pytest

from mace_gaunt.benchmark.cells import list_cells
from mace_gaunt.benchmark.keys import choices, flag, integers, positive, read_pairs, words
from mace_gaunt.benchmark.settings import (
    EXPRESSIVITY_KEYS,
    PRESETS,
    TENSOR_PRODUCT_KEYS,
    expressivity_settings,
    product_settings,
)
from mace_gaunt.errors import UserError


def settings(*pairs):
    return product_settings(
        read_pairs([("out", "x"), *(pair.split("=") for pair in pairs)], TENSOR_PRODUCT_KEYS, "this")
    )


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (integers(0), "3,1..2,1", (1, 2, 3)),
        (integers(0), "[0,4]", (0, 4)),
        (choices("a", "b", "c"), "c,a", ("a", "c")),
        (choices("a", "b"), "all", ("a", "b")),
        (words, "all", ()),
        (words, "b,a,b", ("b", "a")),
        (flag, "True", True),
        (positive, "1e-3", 1e-3),
    ],
)
def test_values_are_read(read, text, value):
    assert read(text) == value


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("degree", "1"), "no key 'degree' in 'this'. Did you mean 'degrees'"),
        (("degrees", "1,,2"), "a comma too many"),
        (("degrees", "3..1"), "the range 3..1 is empty"),
        (("degrees", "-1"), "expected whole numbers"),
        (("channels", "0"), "at least 1"),
        (("passes", "forwards"), "Did you mean 'forward'"),
        (("preset", "ful"), "Did you mean 'full'"),
        (("seconds", "inf"), "expected a positive number"),
        (("device", "tpu0"), "Known: cpu, cuda"),
        (("overwrite", "maybe"), "expected true or false"),
    ],
)
def test_mistakes_say_what_is_right(pair, message):
    with pytest.raises(UserError, match=message.replace("(", "\\(")):
        read_pairs([pair], TENSOR_PRODUCT_KEYS, "this")


def test_out_is_needed():
    with pytest.raises(UserError, match="out is missing"):
        product_settings({})


def test_nothing_left_to_time_is_a_mistake():
    with pytest.raises(UserError, match="nothing is left to time"):
        settings("preset=bars", "operations=node")


def test_keys_change_what_a_preset_times():
    found = settings("operations=edge,node", "degrees=1,2", "edges=50", "passes=forward", "channels=4")
    cells = [cell for plan in found.plans for cell in list_cells(plan, found)]
    assert [(cell.operation, cell.degree, cell.batch, cell.channels) for cell in cells] == [
        ("edge", 1, 50, 4),
        ("edge", 2, 50, 4),
        ("node", 1, 135, 4),
        ("node", 2, 135, 4),
    ]
    assert {plan.passes for plan in found.plans} == {("forward",)}


def test_regimes_have_the_degrees_of_the_literature():
    found = settings("operations=feature", "degrees=3")
    cells = {cell.regime: cell for plan in found.plans for cell in list_cells(plan, found)}
    assert cells["siso"].arguments == ((3,), (3,), (3,))
    assert cells["siso"].pseudo
    assert cells["simo"].arguments == ((3,), (3,), (0, 2, 4, 6))
    assert cells["mimo"].arguments == ((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3, 4, 5, 6))
    assert not cells["mimo"].pseudo
    assert settings("mimo_out=L").mimo_out == "L"


def test_the_help_tells_the_truth_about_defaults():
    assert f"({settings().seconds:g} with preset=small, else {settings('preset=full').seconds:g})" in (
        TENSOR_PRODUCT_KEYS["seconds"].what
    )
    assert f"({settings().longest:g})" in TENSOR_PRODUCT_KEYS["longest"].what
    assert f"({expressivity_settings({'out': 'here'}).seconds:g})" in EXPRESSIVITY_KEYS["seconds"].what


def test_presets_are_what_the_bars_need():
    bars = PRESETS["bars"]
    mimo = {degree for plan in bars if plan.regimes == ("mimo",) for degree in plan.degrees}
    assert mimo == set(range(2, 11))
    assert {plan.operation for plan in bars} == {"feature", "edge"}
