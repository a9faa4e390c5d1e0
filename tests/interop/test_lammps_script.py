"""Translation of LAMMPS scripts and the mapping of atom types; LAMMPS itself is not needed."""

import pytest

from mace_gaunt.errors import UserError
from mace_gaunt.interop.lammps_script import check_masses, choose_elements, map_types, parse_elements, translate

BEFORE = "units metal\nread_data c.data\n"
USE = "pair_style mace_gaunt\npair_coeff * * C H\n"
KNOWN = [1, 6, 8]


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="in.lmp"):
        (tmp_path / name).write_text(text)
        return name

    return write


def test_a_script_is_cut_behind_pair_coeff(script):
    first, last = translate(script(BEFORE + USE + "fix 1 all nve\nrun 5"), 6.0)
    assert first.elements == "C H"
    assert first.text.splitlines()[:2] == BEFORE.splitlines()
    assert [line.split("#")[0].split() for line in first.text.splitlines()[2:]] == [
        ["pair_style", "zero", "6"],
        ["pair_coeff", "*", "*"],
    ]
    assert last.elements is None
    assert last.text == "fix 1 all nve\nrun 5\n"


def test_every_use_is_a_cut_and_other_potentials_are_left_alone(script):
    other = "clear\npair_style lj/cut 3\npair_coeff 1 1 1 1\nclear\n"
    segments = translate(script(BEFORE + USE + "run 0\n" + other + USE), 6.0)
    assert [segment.elements for segment in segments] == ["C H", "C H", None]
    assert "pair_coeff 1 1 1 1" in segments[1].text


def test_continued_lines_comments_and_variables(script):
    text = BEFORE + "pair_style   mace_gaunt # ours\n  pair_coeff * * C & # carbon\n  ${second}\nrun 1\n"
    first, last = translate(script(text), 6.0)
    assert first.elements == "C ${second}"
    assert last.text == "run 1\n"


def test_lines_inside_included_files_are_found(script):
    script(USE + "neighbor 1.0 bin\n", "potential.mod")
    script("thermo 1\n", "output.mod")
    first, last = translate(script(BEFORE + "include potential.mod\ninclude output.mod\nrun 1\n"), 6.0)
    assert "pair_style zero" in first.text
    assert last.text == "neighbor 1.0 bin\ninclude output.mod\nrun 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BEFORE + "run 1\n", "does not use the model"),
        (BEFORE + "pair_style mace_gaunt\nrun 1\n", "line 3: 'pair_style mace_gaunt' is not followed by 'pair_coeff"),
        (BEFORE + "pair_style mace_gaunt model.pt\n", "it takes no arguments"),
        (BEFORE + "pair_style hybrid/overlay mace_gaunt lj/cut 3\n", "no hybrid style"),
        (BEFORE + "pair_style mace_gaunt\npair_coeff 1 1 C\n", "line 4: 'pair_coeff \\* \\* C H ...' names"),
        (BEFORE + USE + "compute s all stress/atom NULL\n", "line 5: compute stress/atom needs the virial"),
        ("include in.lmp # pair_style\n", "files include each other"),
    ],
)
def test_scripts_that_cannot_work_are_refused(text, message, script):
    with pytest.raises(UserError, match=message):
        translate(script(text), 6.0)


def test_an_absent_script_names_the_nearest(script):
    script(BEFORE, "in.copper")
    with pytest.raises(UserError, match=r"No LAMMPS input 'in.coper'. Did you mean 'in.copper'"):
        translate("in.coper", 6.0)


def test_elements_from_wherever_they_are_written():
    assert parse_elements("C,H  O") == parse_elements(["C", "H", "O"]) == ["C", "H", "O"]
    assert parse_elements("") == []
    assert choose_elements(["C"], []) == choose_elements([], ["C"]) == choose_elements(["C"], ["C"]) == ["C"]
    assert choose_elements([], []) == []
    assert map_types(["O", "H", "H"], 3, KNOWN) == [8, 1, 1]


def test_wrong_elements_are_refused():
    with pytest.raises(UserError, match=r"no element 'Hh'\. Did you mean 'H'"):
        parse_elements("C Hh")
    with pytest.raises(UserError, match="pair_coeff says C H, elements= says H C"):
        choose_elements(["C", "H"], ["H", "C"])
    with pytest.raises(UserError, match="3 atom types, but 2 elements"):
        map_types(["C", "H"], 3, KNOWN)
    with pytest.raises(UserError, match="knows only H, C, O, not Cu"):
        map_types(["Cu"], 1, KNOWN)


def test_masses_tell_a_wrong_order_and_allow_isotopes():
    check_masses([1, 6], {1: 1.008, 2: 12.011}, KNOWN)
    check_masses([1, 6], {1: 2.014, 2: 13.003}, KNOWN)
    check_masses([1, 6], {}, KNOWN)
    with pytest.raises(UserError, match=r"atom type 1 is said to be C, but its mass 1\.008 is that of H"):
        check_masses([6, 1], {1: 1.008, 2: 12.011}, KNOWN)
