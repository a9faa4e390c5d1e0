"""Several problems in one command: which there are, which sides sit out, exponents and plots."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

from mace_gaunt.benchmark.keys import read_pairs
from mace_gaunt.benchmark.peer import own, turns
from mace_gaunt.benchmark.peer.client import WorkerError
from mace_gaunt.benchmark.peer.growth import make_growths
from mace_gaunt.benchmark.peer.kernel_choice import kernel_choice, kernel_choices, suits
from mace_gaunt.benchmark.peer.limits import Limits
from mace_gaunt.benchmark.peer.plots import plot_all
from mace_gaunt.benchmark.peer.results import Row
from mace_gaunt.benchmark.peer.settings import STEP_KEYS, StepSettings, step_settings
from mace_gaunt.benchmark.peer.sides import OURS, PEER, Side, build_settings, list_sides
from mace_gaunt.benchmark.peer.turns import Contestant
from mace_gaunt.benchmark.peer.worker import Worker
from mace_gaunt.cli.main import main

GAUNT_KERNELS = {"edge": ("grid", "fused"), "node": ("grid", "fourier")}
MIXED_KERNELS = {"edge": ("dense", "fused"), "node": ("grid", "fourier")}


def ask(*words: str) -> StepSettings:
    """Settings of a command line."""
    pairs = [tuple(word.split("=", 1)) for word in ("out=x", *words)]
    return step_settings(read_pairs(pairs, STEP_KEYS, "benchmark step"))


def problem(max_L: int = 1, nodes: float = 27.0, **more) -> dict:
    """The size of a problem."""
    return {"num_channels": 4, "max_L": max_L, "max_ell": 3, "nodes": nodes, "edges": 16 * nodes, **more}


# Problems


def test_every_combination_is_a_problem_and_smaller_ones_come_first():
    sizes = ask("max_L=1,2", "max_ell=3", "batch_size=8,2").sizes
    assert [(size.max_L, size.max_ell, size.count) for size in sizes] == [(1, 3, 2), (1, 3, 8), (2, 3, 2), (2, 3, 8)]


def test_both_degrees_can_grow_together():
    sizes = ask("max_L=1..3", "max_ell=max_L", "num_channels=4").sizes
    assert [(size.max_L, size.max_ell) for size in sizes] == [(1, 1), (2, 2), (3, 3)]


# Kernels


def test_kernels_are_read_by_name_and_by_place():
    text = "fourier, {edge:fused, node:grid},auto,fourier"
    assert kernel_choices(text) == ("fourier", "{edge:fused,node:grid}", "auto")
    assert kernel_choice("{edge:fused,node:grid}") == {"edge": "fused", "node": "grid"}


def test_a_family_gets_the_kernels_it_has():
    assert suits("dense", MIXED_KERNELS) and not suits("dense", GAUNT_KERNELS) and suits("auto", GAUNT_KERNELS)
    assert suits("{node:fourier}", GAUNT_KERNELS) and not suits("{edge:fourier,node:grid}", GAUNT_KERNELS)
    settings = ask("families=gaunt,mixed", "kernel=grid,{edge:dense,node:grid}", "ours=eager", "peer=eager")
    sides = list_sides(settings, {"gaunt": GAUNT_KERNELS, "mixed": MIXED_KERNELS})
    assert [side.name for side in sides] == [
        "mace_gaunt gaunt grid eager",
        "mace_gaunt mixed grid eager",
        "mace_gaunt mixed {edge:dense,node:grid} eager",
        "mace-torch eager",
    ]
    built = build_settings(sides[2], {}, {"mixed": "factories"})
    assert built["kernel"] == {"edge": "dense", "node": "grid"}
    assert "kernel" not in build_settings(sides[3], {}, {})


# Sides that end


def entrant(side: Side, seconds: float = 0.1, **failed: str) -> Contestant:
    """A side that has taken its turns."""
    return Contestant(side, rounds={"step": [[seconds], [seconds]]}, failed=failed)


def test_a_side_that_takes_too_long_sits_out_what_is_larger_in_everything():
    slow, fast = Side(PEER, "", "eager"), Side(OURS, "gaunt", "eager")
    limits = Limits(2.0)
    limits.note([entrant(slow, 2.5), entrant(fast, 1.9)], "step", problem(2, 135.0))
    reason = limits.reason(slow, "step", problem(2, 270.0))
    assert reason == "2.5 s a call at 4 channels, max_L 2, max_ell 3, 135 atoms, 2160 edges"
    assert limits.reason(slow, "step", problem(3, 135.0)) == reason
    assert limits.reason(slow, "step", problem(1, 270.0)) == limits.reason(slow, "infer", problem(2, 270.0)) == ""
    assert limits.reason(fast, "step", problem(2, 270.0)) == ""


def test_a_side_that_fails_sits_out_what_is_larger():
    limits = Limits(2.0)
    broken, unbuilt = Side(PEER, "", "eager"), Side(PEER, "", "compiled")
    limits.note([entrant(broken, step="no memory"), entrant(unbuilt, build="no memory")], "step", problem())
    for side in (broken, unbuilt):
        assert limits.reason(side, "step", problem(1, 28.0)).startswith("failed at 4 channels")


# Exponents and plots


def rows(power_of_edges: float = 1.0, power_of_degree: float = 3.0, degrees: int = 4) -> list[Row]:
    """Two sides that follow power laws; the slower one ends early."""
    found = []
    for max_L in range(1, degrees + 1):
        for nodes in (27.0, 81.0, 270.0):
            for side, factor in ((Side(OURS, "gaunt", "eager"), 1.0), (Side(PEER, "", "eager"), 8.0)):
                names = {name: getattr(side, name) for name in ("program", "family", "kernel", "variant")}
                size = problem(max_L, nodes, max_ell=max_L)
                ms = factor * nodes**power_of_edges * max_L**power_of_degree
                left_out = "8 s a call" if factor > 1 and nodes * max_L > 300 else ""
                times = {} if left_out else {"median_ms": ms, "peak_tensors_MB": 2 * factor * nodes}
                found.append(Row(**size, what="step", **names, **times, left_out=left_out))
    return found


def test_exponents_of_power_laws_are_found():
    growths = make_growths(rows(0.9, 2.5))
    ours = {(g.against, g.fixed, g.quantity): g for g in growths if g.side == "mace_gaunt gaunt eager"}
    edges = ours["edges", "4 channels, max_L 2, max_ell 2", "time"]
    assert (edges.points, edges.first, edges.last) == (3, 432.0, 4320.0)
    assert [edges.exponent, edges.lowest, edges.highest] == pytest.approx([0.9] * 3)
    degrees = ours["max_L = max_ell", "4 channels, 27 atoms", "time"]
    assert (degrees.points, degrees.exponent) == (4, pytest.approx(2.5))
    assert ours["max_L = max_ell", "4 channels, 27 atoms", "tensors"].exponent == pytest.approx(0.0)
    peer = {(g.against, g.fixed): g for g in growths if g.side == "mace-torch eager" and g.quantity == "time"}
    # Four degrees of one molecule, one degree of ten: too few for an exponent.
    assert ("max_L = max_ell", "4 channels, 27 atoms") in peer
    assert ("max_L = max_ell", "4 channels, 270 atoms") not in peer


def test_what_varies_is_drawn(tmp_path: Path):
    written = plot_all(rows(degrees=2), "float32, 2 threads, cpu", tmp_path)
    assert [path.name for path in written] == [
        *(f"growth_edges_4_channels_max_L_{L}_max_ell_{L}.png" for L in (1, 2)),
        *(f"growth_max_L_max_ell_4_channels_{nodes}_atoms.png" for nodes in (27, 81, 270)),
    ]
    for path in written[::2]:
        assert imread(path)[..., :3].std() > 0.02
        assert path.stat().st_size < 100_000


def test_one_series_has_a_short_name(tmp_path: Path):
    (path,) = plot_all(rows(degrees=1), "", tmp_path)
    assert path.name == "growth_edges.png"


class InProcess:
    """A worker without a process."""

    def __init__(self) -> None:
        self.worker = Worker(own.Backend)

    def ask(self, command: str, timeout: float, **arguments):
        """As `Client.ask`."""
        try:
            return self.worker.execute(command, arguments)
        except Exception as error:
            raise WorkerError(str(error)) from error

    def close(self) -> None:
        """Nothing to end."""


def test_several_problems_and_kernels(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(turns, "start", lambda *arguments: InProcess())
    out = tmp_path / "result"
    tiny = ["num_channels=4", "max_ell=1", "correlation=2", "batches=1", "rounds=1", "seconds=1e-9", "what=infer"]
    words = [
        "peer=none",
        "ours=eager",
        "batch_size=1,2",
        "kernel={edge:grid,node:grid},{edge:grid,node:direct}",
        "limit=1e-9",
    ]
    with torch.random.fork_rng():
        assert main(["benchmark", "step", f"out={out}", f"threads={torch.get_num_threads()}", *tiny, *words]) == 0
    table, ratios = (list(csv.DictReader((out / name).open())) for name in ("results.csv", "ratios.csv"))
    assert [(row["kernel"], row["nodes"], bool(row["median_ms"])) for row in table] == [
        ("{edge:grid,node:grid}", "27", True),
        ("{edge:grid,node:direct}", "27", True),
        ("{edge:grid,node:grid}", "54", False),
        ("{edge:grid,node:direct}", "54", False),
    ]
    assert "node grid" in table[0]["kernels"] and "node direct" in table[1]["kernels"]
    assert "s a call at 4 channels" in table[2]["left_out"] and not any(row["failed"] for row in table)
    assert [row["other"] for row in ratios] == ["mace_gaunt gaunt {edge:grid,node:grid} eager"]
    assert (out / "growth.csv").exists() and not (out / "profile.csv").exists()
    assert "left out: " in capsys.readouterr().out


def test_memory_beyond_the_limit_is_a_failure_of_that_side_only():
    code = "from mace_gaunt.benchmark.peer.worker import limit_memory\nlimit_memory(0.5)\nx = bytearray(10**9)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "MemoryError" in ended.stderr
