import pytest

from mace_gaunt.cli.aliases import Known
from mace_gaunt.cli.request import read_value
from mace_gaunt.cli.values import Sweep, parse_value
from mace_gaunt.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-3", 1e-3),
        ("true", True),
        ("null", None),
        ("gaunt", "gaunt"),
        ("128x0e + 128x1o", "128x0e + 128x1o"),
        ("'a,b'", "a,b"),
        ("[1, 2]", [1, 2]),
        ("{H: -13.6, C: -1029}", {"H": -13.6, "C": -1029}),
        ("train_mixedT[334:]", "train_mixedT[334:]"),
        ("[test_300K,train_mixedT[334:]]", ["test_300K", "train_mixedT[334:]"]),
        ("['a.xyz',b.xyz[:2]]", ["a.xyz", "b.xyz[:2]"]),
        ("{cold: a.xyz[:5], hot: 'b.xyz'}", {"cold": "a.xyz[:5]", "hot": "b.xyz"}),
        ("a=b", "a=b"),
        ("/data/my file (1).xyz", "/data/my file (1).xyz"),
        ("~/é.xyz", "~/é.xyz"),
        ("${seed}", "${seed}"),
    ],
)
def test_values(text, value):
    assert parse_value(text) == value


def test_commas_and_ranges_are_sweeps():
    assert parse_value("gaunt,clebsch_gordan") == Sweep("gaunt,clebsch_gordan", ("gaunt", "clebsch_gordan"))
    assert parse_value("a.xyz[1:],b.xyz") == Sweep("a.xyz[1:],b.xyz", ("a.xyz[1:]", "b.xyz"))
    assert isinstance(parse_value("range(0,3)"), Sweep)


@pytest.mark.parametrize("text", ["[1,2", "{a:1", "'open", "{a}x"])
def test_open_brackets_are_refused(text):
    with pytest.raises(UserError, match="not closed"):
        parse_value(text)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("run", "2024_01_15", "2024_01_15"),
        ("name", "1e3", "1e3"),
        ("run", "007", "007"),
        ("run", "null", None),
        ("run", "first", "first"),
        ("train_file", "2024_01", "2024_01"),
        ("init", "12", "12"),
        ("seed", "1_000", 1000),
        ("lr", "1e-3", 1e-3),
        ("model", "1e3", 1000.0),
    ],
)
def test_names_may_look_like_numbers(key, text, value):
    known = Known(frozenset({"run", "init", "seed"}), frozenset({"data", "model", "optimizer"}))
    assert read_value(key, text, known) == value
