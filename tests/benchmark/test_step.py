"""`benchmark step` and `benchmark md`: what they can be asked, and our side alone, end to end."""

import csv
import json

import pytest
import torch

from mace_gaunt.benchmark.keys import read_pairs
from mace_gaunt.benchmark.peer import own, problem
from mace_gaunt.benchmark.peer.settings import MD_KEYS, STEP_KEYS, md_settings, step_settings
from mace_gaunt.cli import benchmark_md, benchmark_step, side_by_side
from mace_gaunt.cli.main import main
from mace_gaunt.errors import UserError

TINY = ["num_channels=4", "max_ell=1", "correlation=2", "batch_size=1", "batches=1", "rounds=1", "seconds=1e-9"]


def ask(*words: str, keys=STEP_KEYS, make=step_settings):
    """Settings of a command line."""
    return make(read_pairs([tuple(word.split("=", 1)) for word in words], keys, "benchmark step"))


def test_keys_become_settings():
    settings = ask("out=x", "families=gaunt,clebsch_gordan", "peer=none", "ours=compiled", "what=step", "max_L=2")
    assert settings.families == ("gaunt", "clebsch_gordan") and settings.peer == () and settings.ours == ("compiled",)
    assert (settings.what, settings.max_L, settings.num_channels) == (("step",), (2,), (64,))
    moving = ask("out=x", "repeat=1..3", "what=all", keys=MD_KEYS, make=md_settings)
    assert (moving.repeat, moving.what, moving.ours) == ((1, 2, 3), ("infer", "md"), ("eager", "compiled"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["num_channels=4"], "out is missing"),
        (["out=x", "num_chanels=4"], "no key 'num_chanels'.*num_channels"),
        (["out=x", "peer=eagre"], "no 'eagre'.*eager"),
        (["out=x", "peer=none", "ours=none"], "nothing to time"),
        (["out=x", "families=all"], "name them"),
        (["out=x", "seconds=-1"], "positive number"),
        (["out=x", "allocator=mine"], "no 'mine'"),
        (["out=x", "max_ell=max_l"], "whole numbers"),
        (["out=x", "kernel=grid,{edges:fused}"], r"\{edge:NAME,node:NAME\}"),
        (["out=x", "kernel={edge:}"], r"\{edge:NAME,node:NAME\}"),
        (["out=x", "limit=0"], "positive number"),
        (["out=x", "device=cuda", "memory=4"], "on a CPU"),
    ],
)
def test_mistakes_are_named(words, message):
    with pytest.raises(UserError, match=message):
        ask(*words)


@pytest.mark.parametrize("instrument", [benchmark_step, benchmark_md])
def test_mistakes_that_only_the_run_sees(instrument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no tensor_product 'gount'\. Did you mean 'gaunt'"):
        instrument.run(["out=x", "families=gount"])
    with pytest.raises(UserError, match=r"no environment with mace-torch in here.*make_peer_env\.sh here.*peer=none"):
        instrument.run(["out=x", "peer_env=here"])
    with pytest.raises(UserError, match=r"no file|No structure file"):
        instrument.run(["out=x", "peer=none", "data=no.xyz" if instrument is benchmark_step else "structure=no.xyz"])
    with pytest.raises(UserError, match=r"kernel=sparse is not possible: gaunt has no such kernel"):
        instrument.run(["out=x", "peer=none", "kernel=grid,sparse"])
    assert not (tmp_path / "x").exists()


def test_data_with_too_few_structures_are_refused(tmp_path):
    with pytest.raises(UserError, match="batch_size=300 batches=4 take 1200"):
        request = ask("out=x", "batch_size=5,300")
        problem.training_problem(request, request.sizes[0], tmp_path)


def test_help_lists_every_key():
    for module, keys in ((benchmark_step, STEP_KEYS), (benchmark_md, MD_KEYS)):
        text = module.help_text()
        assert all(f"  {name}" in text for name in keys)


@pytest.fixture
def backend(tmp_path):
    """Our side in this process, tiny, in float64."""
    settings = ask("out=x", "dtype=float64", *TINY, f"threads={torch.get_num_threads()}")
    task = problem.training_problem(settings, settings.sizes[0], tmp_path)
    own_settings = {"variant": "eager", "kernel": "auto", "products": side_by_side.load_products(["gaunt"])["gaunt"]}
    with torch.random.fork_rng():
        yield own.Backend({**task, **own_settings})


def test_steps_of_our_side_lower_the_loss_and_average_the_weights(backend):
    before = [average.clone() for average in backend.average]
    losses = [float(backend.step(0)) for _ in range(15)]
    assert losses[-1] < 0.9 * losses[0]
    assert any(not torch.equal(new, old) for new, old in zip(backend.average, before, strict=True))


def test_parts_cover_the_weights_between_embedding_and_readouts(backend):
    parts = [weight for modules in backend.parts().values() for module in modules for weight in module.parameters()]
    rest = [*backend.model.embedding.parameters(), *backend.model.readouts.parameters()]
    assert len({id(weight) for weight in parts + rest}) == len(parts + rest) == len(list(backend.model.parameters()))


def test_our_side_end_to_end(tmp_path, capsys):
    out = tmp_path / "result"
    words = ["benchmark", "step", f"out={out}", "peer=none", "ours=eager", *TINY]
    assert main(words) == 0
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["what"], row["program"], row["family"], row["failed"]) for row in rows] == [
        ("infer", "mace_gaunt", "gaunt", ""),
        ("step", "mace_gaunt", "gaunt", ""),
    ]
    assert all(float(row["median_ms"]) > 0 and float(row["nodes"]) == 27 for row in rows)
    with (out / "profile.csv").open() as file:
        shares = list(csv.DictReader(file))
    assert [row["part"] for row in shares] == [
        *("matmul, copy", "edge product", "node product", "radial MLP", "Linear", "rest")
    ]
    assert sum(float(row["share"]) for row in shares[1:]) == pytest.approx(1.0, abs=0.01)
    assert json.loads((out / "benchmark.json").read_text())["settings"]["peer"] == []
    assert "per s" in capsys.readouterr().out
    assert main(words) == 2
    assert "overwrite=true" in capsys.readouterr().err
