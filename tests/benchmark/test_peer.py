"""The protocol between the sides, and the race: made-up workers, our own, and mace-torch where it is installed."""

import ast
import io
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from mace_gaunt.benchmark import peer
from mace_gaunt.benchmark.peer import problem, sides, turns
from mace_gaunt.benchmark.peer.client import Client, WorkerError
from mace_gaunt.benchmark.peer.results import make_ratios, make_row
from mace_gaunt.benchmark.peer.settings import MdSettings, StepSettings
from mace_gaunt.benchmark.peer.shares import REST, count_parts
from mace_gaunt.benchmark.peer.sides import OURS, PEER, Side
from mace_gaunt.benchmark.peer.turns import Contestant, race
from mace_gaunt.benchmark.peer.worker import serve
from mace_gaunt.errors import UserError

FOLDER = Path(peer.__file__).parent
ECHO = "import sys\nfor line in sys.stdin: print(%s, flush=True)"
GAUNT = {
    "gaunt": {
        place: {"_target_": f"mace_gaunt.tensor_products.gaunt.Gaunt{name}Product", "_partial_": True}
        for place, name in (("edge_product", "Edge"), ("node_product", "Node"))
    }
}
SMALL = {
    **{"num_channels": (4,), "max_ell": (1,), "correlation": 2, "batch_size": (2,), "batches": 2},
    **{"rounds": 1, "seconds": 1e-9},
}
PROBLEM = {"num_channels": 4, "max_L": 1, "max_ell": 1, "nodes": 27.0, "edges": 481.0}


def start(code: str) -> Client:
    """A worker that runs a piece of Python."""
    return Client("made-up", [sys.executable, "-c", code], dict(os.environ))


def small_settings(**changes) -> StepSettings:
    """A tiny request."""
    return StepSettings(**{"out": "unused", "threads": torch.get_num_threads(), **SMALL, **changes})


# The client


def test_a_client_gives_the_result_of_a_command():
    client = start(ECHO % """'{"result": {"seconds": [1.5]}}'""")
    assert client.ask("step", timeout=30, count=1) == {"seconds": [1.5]}
    client.close()


def test_a_worker_that_dies_is_reported_with_what_it_wrote():
    client = start("import sys\nsys.stdin.readline()\nprint('no such library', file=sys.stderr)\nsys.exit(3)")
    with pytest.raises(
        WorkerError, match=r"(?s)made-up: the process ended with status 3 during 'build'.*no such library"
    ):
        client.ask("build", timeout=30)
    with pytest.raises(WorkerError, match="has ended"):
        client.ask("step", timeout=30)


def test_a_worker_that_hangs_is_ended():
    client = start("import time\ntime.sleep(600)")
    with pytest.raises(WorkerError, match=r"no answer to 'step' within 0\.2 s"):
        client.ask("step", timeout=0.2)
    assert client._process.returncode is not None


@pytest.mark.parametrize("line", ["'hello'", "'[1, 2]'", """'{"result": 3}'"""])
def test_a_line_that_is_not_of_the_protocol_is_refused(line):
    client = start(ECHO % line)
    with pytest.raises(WorkerError, match="not of the protocol"):
        client.ask("step", timeout=30)


def test_a_failed_command_leaves_the_worker_running():
    client = start(ECHO % """'{"error": "ValueError: no", "trace": ""}'""")
    for _ in range(2):
        with pytest.raises(WorkerError, match="made-up: step: ValueError: no"):
            client.ask("step", timeout=30)
    client.close()


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(WorkerError, match="'no-such-program' cannot be started"):
        Client("made-up", ["no-such-program"], {})


# The worker


class Square:
    """A back end that knows its batches only."""

    num_batches = 2

    def __init__(self, settings):
        self.settings = settings
        self.seen = []

    def describe(self):
        """Nothing was built."""
        return {"parameters": 0}

    def step(self, index):
        """Fails on request."""
        self.seen.append(index)
        return float("nan") if self.settings["bad"] else float(index)


def answers(*requests: dict, bad: bool = False) -> list[dict]:
    """What a worker answers."""
    build = {"command": "build", "threads": torch.get_num_threads(), "device": "cpu", "bad": bad}
    out = io.StringIO()
    serve(Square, [json.dumps(request) for request in (build, *requests)], out)
    return [json.loads(line) for line in out.getvalue().splitlines()][1:]


def test_a_worker_times_calls_over_the_batches_in_turn():
    first, second = answers({"command": "step", "count": 2}, {"command": "step", "count": 1})
    assert len(first["result"]["seconds"]) == 2
    assert (first["result"]["value"], second["result"]["value"]) == (1.0, 0.0)


def test_a_worker_survives_what_it_cannot_do():
    unknown, nonsense, good = answers(
        {"command": "fly"}, {"command": "step", "number": 1}, {"command": "step", "count": 1}
    )
    assert "no command 'fly'" in unknown["error"]
    assert nonsense["error"].startswith("TypeError")
    assert "result" in good


def test_a_side_that_computes_no_number_is_not_timed():
    (answer,) = answers({"command": "step", "count": 1}, bad=True)
    assert answer["error"] == "ValueError: step gave nan"


def test_a_worker_stops_at_quit():
    assert answers({"command": "quit"}, {"command": "step", "count": 1}) == []


@pytest.mark.parametrize("name", ["worker.py", "shares.py", "mace_torch.py", "../timing.py"])
def test_what_the_peer_runs_does_not_import_this_package(name):
    tree = ast.parse((FOLDER / name).read_text())
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert modules and not [module for module in modules if module.startswith("mace_gaunt")]


# Sides


def test_a_missing_environment_says_how_to_make_it(tmp_path):
    with pytest.raises(UserError, match=r"make_peer_env\.sh .*nowhere\. Or leave mace-torch out: peer=none"):
        sides.find_peer(str(tmp_path / "nowhere"))


def test_environments_of_the_sides():
    ours, theirs = Side(OURS, "gaunt", "eager"), Side(PEER, "", "eager")
    inherited = {"PYTHONPATH": "here", "OTHER": "1"}
    kept = {
        allocator: [
            "MALLOC_TOP_PAD_"
            in sides.environment(side, small_settings(allocator=allocator, threads=3), inherited, FOLDER)
            for side in (ours, theirs)
        ]
        for allocator in ("own", "kept", "default")
    }
    assert kept == {"own": [True, False], "kept": [True, True], "default": [False, False]}
    found = sides.environment(theirs, small_settings(threads=3), inherited, FOLDER)
    assert found["OMP_NUM_THREADS"] == "3" and found["OTHER"] == "1" and "PYTHONPATH" not in found


# The race


class Script:
    """A client that answers from a table: command -> seconds, or a failure."""

    def __init__(self, seconds: float, log: list, name: str, value: float = 1.0, fails_at: int = 10**9) -> None:
        self.seconds, self.log, self.name, self.value, self.left = seconds, log, name, value, fails_at

    def ask(self, command: str, timeout: float, **arguments):
        """The answer of a worker."""
        if command == "peak":
            return {"tensors": 2 * 10**6, "process": None}
        self.left -= 1
        if self.left < 0:
            raise WorkerError("it broke")
        self.log.append(self.name)
        return {"seconds": [self.seconds] * arguments["count"], "value": self.value, "moved": self.value}


def contestant(program: str, seconds: float, log: list, family: str = "", **more) -> Contestant:
    """A side that is ready."""
    side = Side(program, family, more.pop("variant", "eager"), more.pop("kernel", "auto"))
    built = {"n_nodes": [27, 27], "n_edges": [480, 482], "parameters": 7, "version": "1", "torch": "2"}
    return Contestant(side, Script(seconds, log, side.name, **more), built)


def test_sides_take_turns_and_the_ratio_is_of_rounds():
    log: list[str] = []
    entrants = [contestant(OURS, 0.2, log, "gaunt"), contestant(PEER, 0.8, log)]
    race(entrants, "step", small_settings(rounds=3), None, lambda text: None)
    assert log[4:] == ["mace_gaunt gaunt eager", "mace-torch eager"] * 3
    (ratio,) = make_ratios(entrants, "step", PROBLEM)
    assert (ratio.ours, ratio.other, ratio.nodes) == ("mace_gaunt gaunt eager", "mace-torch eager", 27)
    assert ratio.median == pytest.approx(4.0)
    row = make_row(entrants[0], "step", PROBLEM)
    # Turns of half a second: two calls, and one more that is not counted.
    assert (row.median_ms, row.samples, row.edges, row.peak_tensors_MB) == (pytest.approx(200.0), 6, 481, 2.0)


def test_a_side_that_breaks_leaves_the_others_running():
    log: list[str] = []
    entrants = [contestant(OURS, 0.2, log, "gaunt"), contestant(PEER, 0.8, log, fails_at=3)]
    race(entrants, "step", small_settings(rounds=3), None, lambda text: None)
    assert make_row(entrants[1], "step", PROBLEM).failed == "it broke"
    assert make_row(entrants[0], "step", PROBLEM).median_ms == pytest.approx(200.0)
    assert make_ratios(entrants, "step", PROBLEM) == []


def test_long_calls_all_count():
    log: list[str] = []
    entrant = contestant(OURS, 3.0, log, "gaunt")
    race([entrant], "step", small_settings(rounds=2), None, lambda text: None)
    assert entrant.rounds["step"] == [[3.0], [3.0]]


def test_kernels_of_one_function_are_compared():
    log: list[str] = []
    names = [("gaunt", "fourier", 0.3), ("gaunt", "grid", 0.2), ("clebsch_gordan", "dense", 0.6)]
    entrants = [contestant(OURS, seconds, log, family, kernel=kernel) for family, kernel, seconds in names]
    race(entrants, "step", small_settings(), None, lambda text: None)
    (ratio,) = make_ratios(entrants, "step", PROBLEM)
    assert (ratio.ours, ratio.other) == ("mace_gaunt gaunt grid eager", "mace_gaunt gaunt fourier eager")
    assert ratio.median == pytest.approx(1.5)


def test_another_form_with_another_value_is_let_out():
    log: list[str] = []
    entrants = [
        contestant(PEER, 0.8, log),
        contestant(PEER, 0.1, log, variant="compiled", value=1.1),
        contestant(OURS, 0.1, log, "gaunt", value=5.0),
    ]
    race(entrants, "step", small_settings(), None, lambda text: None)
    assert "gives 1.1, that of mace-torch eager 1" in entrants[1].failed["step"]
    assert entrants[0].failed == {} and entrants[2].failed == {}


def test_other_graphs_and_other_flights_are_refused():
    log: list[str] = []
    entrants = [contestant(OURS, 0.2, log, "gaunt"), contestant(PEER, 0.8, log, value=1.5)]
    with pytest.raises(RuntimeError, match="same flight"):
        race(entrants, "md", small_settings(), 5, lambda text: None)
    entrants[1].built["n_edges"] = [480, 484]
    with pytest.raises(RuntimeError, match="same graphs"):
        turns.check_same_graphs(entrants)


# Shares of a step


def test_work_of_both_backward_passes_belongs_to_the_part():
    torch.manual_seed(0)
    first, second = torch.nn.Linear(5, 7, bias=False), torch.nn.Linear(7, 1, bias=False)
    x = torch.randn(11, 5, requires_grad=True)

    def step():
        energy = second(torch.tanh(first(x))).sum()
        (forces,) = torch.autograd.grad(energy, x, create_graph=True)
        forces.square().sum().backward()

    work = count_parts(step, {"first": [first], "second": [second]})
    # Energy, force, two backward products of the force and two of the energy.
    assert work.flops["first"] == 6 * 2 * 11 * 5 * 7
    # Energy, force, and what the force needs of the weights: the loss does not depend on the energy.
    assert work.flops["second"] == 3 * 2 * 11 * 7
    assert work.flops[REST] == 0
    assert work.moved["first"] > work.moved["second"] > 0 and work.moved[REST] > 0


# Problems


def test_a_problem_of_the_bundled_data(tmp_path):
    request = small_settings()
    (size,) = request.sizes
    settings = problem.training_problem(request, size, tmp_path)
    assert settings["atomic_numbers"] == [1, 6, 7, 8] and settings["batch_size"] == 2 and settings["nodes"] == 54
    assert settings["num_channels"] == 4 and settings["avg_num_neighbors"] > 5
    assert len((tmp_path / "frames.extxyz").read_text().splitlines()) == 4 * 29


def test_boxes_hold_copies_that_do_not_overlap():
    from ase import Atoms

    molecule = Atoms("CO", positions=[[0, 0, 0], [1.1, 0, 0]])
    assert not problem.make_box(molecule, 1).pbc.any()
    box = problem.make_box(molecule, 2)
    assert len(box) == 16 and box.pbc.all()
    distances = box.get_all_distances(mic=True)[0]
    assert sorted(distances)[:2] == pytest.approx([0.0, 1.1]) and sorted(distances)[2] > problem.GAP - 1e-9


# Real sides


def build(side: Side, settings, folder: Path, task: dict, python: Path | None) -> Contestant:
    """A real side, built."""
    entrant = Contestant(side, sides.start(side, settings, python, folder / "compiled"))
    entrant.built = entrant.ask("build", 120, **sides.build_settings(side, task, GAUNT))
    return entrant


@pytest.mark.slow
def test_the_true_peer_sees_the_same_graphs_and_flies_the_same_way(tmp_path):
    try:
        python = sides.find_peer(os.environ.get("MACE_GAUNT_PEER_ENV"))
    except UserError as error:
        pytest.skip(str(error))
    few = {"num_channels": (4,), "max_ell": (1,), "correlation": 2, "rounds": 1, "seconds": 1e-9}
    settings = MdSettings(out="unused", threads=1, **few)
    task = problem.box_problem(settings, settings.sizes[0], tmp_path)
    entrants = []
    try:
        for side in (Side(OURS, "gaunt", "eager"), Side(PEER, "", "eager")):
            entrants.append(build(side, settings, tmp_path, task, python))
        turns.check_same_graphs(entrants)
        race(entrants, "md", settings, 3, lambda text: None)
        assert [entrant.failed for entrant in entrants] == [{}, {}]
        assert entrants[0].moved == pytest.approx(entrants[1].moved, abs=1e-5) and entrants[0].moved > 1e-3
        assert entrants[1].built["parameters"] > entrants[0].built["parameters"] > 0
    finally:
        for entrant in entrants:
            entrant.client.close()
