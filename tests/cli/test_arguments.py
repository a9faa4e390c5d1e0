from pathlib import Path

import pytest

from mace_gaunt.cli.arguments import config_file, parse_arguments
from mace_gaunt.errors import UserError


def test_words_pairs_flags_and_removals_are_sorted(tmp_path):
    arguments = parse_arguments(
        ["my.yaml", "a.b=1", "+c=x=y", "-m", "--print-config", f"--config-dir={tmp_path}", "~d.e"]
    )
    assert arguments.words == ["my.yaml"]
    assert arguments.pairs == [("a.b", "1"), ("c", "x=y")]
    assert arguments.flags == {"--multirun", "--print-config"}
    assert arguments.config_dir == tmp_path
    assert arguments.removed == ["d.e"]


def test_a_file_whose_path_has_an_equals_sign_is_a_file(tmp_path):
    path = tmp_path / "lr=0.1.yaml"
    path.write_text("seed: 1\n")
    assert config_file(parse_arguments([str(path)]), "train") == path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--r_max=5"], "Keys are written without dashes: r_max=5"),
        (["--valdate-only"], "Did you mean '--validate-only'"),
        (["--config-dir"], "needs a folder"),
        (["--config-dir", "/nowhere/at/all"], "no folder"),
    ],
)
def test_wrong_flags_say_what_is_right(words, message):
    with pytest.raises(UserError, match=message):
        parse_arguments(words)


def test_wrong_files_say_what_is_right(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").touch()
    for word, message in (
        ("mi.yaml", "Did you mean 'my.yaml'"),
        ("quickstart", "Did you mean experiment=quickstart"),
        ("gaunt", "Did you mean tensor_product=gaunt"),
    ):
        with pytest.raises(UserError, match=message):
            config_file(parse_arguments([word]), "train")
    with pytest.raises(UserError, match="takes one configuration file"):
        config_file(parse_arguments(["my.yaml", "lr", "0.1"]), "train")
