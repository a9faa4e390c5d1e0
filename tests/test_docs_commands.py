"""Every `mace-gaunt` command in the fenced blocks of the documentation is understood as it stands there."""

import re
from pathlib import Path

import pytest
from docs_commands import COMMANDS

from mace_gaunt.cli import benchmark, data, multirun, sweep
from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.compose import compose
from mace_gaunt.cli.main import VERBS, main
from mace_gaunt.cli.request import read_request

# Commands that cannot even be composed here -> why. Placeholders of files need no entry: no file is looked for.
EXCUSED: dict[str, str] = {}


CHECKED = [command for command in COMMANDS if command.text not in EXCUSED]


LAUNCHERS = {"joblib": "hydra_joblib_launcher", "submitit": "hydra_submitit_launcher"}
"""First word of a launcher -> the plugin that brings it, an extra."""


class Understood(Exception):  # noqa: N818 - it ends a command where its work would begin
    """A command whose keys have been read."""


def check_plain_keys(verb, words, monkeypatch):
    """`data` and `benchmark` read all their keys before anything else: that far they run."""
    module = (data.subverb if verb == "data" else benchmark.instrument)(words[0])
    # Settings of benchmarks are checked together in a function of their own.
    name = next((name for name in vars(module) if name.endswith("_settings")), "read_pairs")
    read = getattr(module, name)

    def stop(*arguments):
        read(*arguments)
        raise Understood

    monkeypatch.setattr(module, name, stop)
    with pytest.raises(Understood):
        module.run(words[1:])


def check_sweep(words):
    settings, arguments = sweep.split_keys(parse_arguments(words))
    request = read_request("train", arguments)
    assert compose(request).config is not None
    assert sweep.read_space(settings["space"], request)


def check_multirun(words, monkeypatch):
    """The first and the last job; all of them differ in values only."""
    jobs = []
    monkeypatch.setattr(multirun, "compose", jobs.append)
    request = read_request("train", parse_arguments(words))
    multirun.check_jobs(request)
    assert len(jobs) > 1
    for job in (jobs[0], jobs[-1]):
        assert compose(job).config is not None


@pytest.mark.parametrize("command", CHECKED, ids=[f"{c.page.stem}: {c.text[:70]}" for c in CHECKED])
def test_a_command_of_the_documentation_is_understood(command, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for launcher in re.findall(r"hydra/launcher=([a-z]+)", command.text):
        pytest.importorskip(f"hydra_plugins.{LAUNCHERS[launcher]}", reason=f"the launcher {launcher} is not installed")
    for name, text in command.files:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    verb, *words = command.words
    if verb.startswith("-") or {"--help", "--help-keys", "--print-config"} & set(words):
        assert main([verb, *words]) == 0
    elif verb in ("data", "benchmark"):
        check_plain_keys(verb, words, monkeypatch)
    elif verb == "sweep":
        check_sweep(words)
    elif "--multirun" in words or "-m" in words:
        check_multirun(words, monkeypatch)
    else:
        status = main([verb, *(word for word in words if word != "--validate-only"), "--print-config"])
        assert status == 0, capsys.readouterr().err


def test_commands_are_found_where_they_are():
    pages = {command.page.name for command in COMMANDS}
    assert {"README.md", "data.md", "oc20.md", "export.md", "sweeps.md"} <= pages and len(COMMANDS) > 40
    (with_file,) = [c for c in COMMANDS if c.words == ["train", "my.yaml"]]
    assert "\nrun: mine\n" in dict(with_file.files)["my.yaml"]
    assert all(command.words[0] in VERBS or command.words[0].startswith("-") for command in COMMANDS)


def test_excuses_are_still_needed():
    texts = {command.text for command in COMMANDS}
    assert all(text in texts and reason for text, reason in EXCUSED.items())
