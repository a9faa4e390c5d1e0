"""One process, several, or Dask: the same store; and what happens when processes die."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import pytest
from slabs import contents, make_slab

from mace_gaunt.data.store import prepare as prepare_module
from mace_gaunt.data.store.engines import open_engine
from mace_gaunt.data.store.prepare import prepare
from mace_gaunt.data.store.request import Request
from mace_gaunt.data.store.settings import check_r_max
from mace_gaunt.errors import UserError


def test_one_process_works_in_order():
    with open_engine("local", 1) as engine:
        assert list(engine.run(abs, [-3, 1, 2], useful=9)) == [3, 1, 2]
        assert list(engine.run(abs, [], useful=9)) == []
    with open_engine("local", 4) as engine:
        assert list(engine.run(str, [os.getpid()], useful=9)) == [str(os.getpid())]
        assert list(engine.run(abs, [-3, 1], useful=1)) == [3, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("lokal", 1), "Did you mean 'local'"),
        (("local", 1, "tcp://host:8786"), "belongs to engine=dask"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(UserError, match=message):
        open_engine(*settings)


def test_a_missing_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match="pip install 'mace-gaunt"), open_engine("dask", 1):
        pass


@pytest.fixture
def write(tmp_path):
    """Writes four files of some slabs each."""

    def write_files(n_frames: int) -> list[Path]:
        paths = [tmp_path / f"{i}.extxyz" for i in range(4)]
        for number, path in enumerate(paths):
            ase.io.write(path, [make_slab(600 * number + i) for i in range(n_frames)])
        return paths

    return write_files


def test_two_processes(write, tmp_path, monkeypatch):
    """They make the same store as one, pass errors on, and may die."""
    monkeypatch.setattr(prepare_module, "RECORDS_PER_PROCESS", 10)
    paths = write(10)
    with open_engine("local", 1) as engine:
        prepare(Request(paths, tmp_path / "one", 4.0, shard_size=7), engine)
    with open_engine("local", 2) as engine:
        prepare(Request(paths, tmp_path / "two", 4.0, shard_size=7), engine)
        assert contents(tmp_path / "two") == contents(tmp_path / "one")
        assert sorted(engine.run(abs, [-1, -2, -3], useful=2)) == [1, 2, 3]
        with pytest.raises(UserError, match="r_max is a positive length"):
            list(engine.run(check_r_max, [1.0, -1.0, 2.0], useful=2))
        with pytest.raises(UserError, match=r"a worker process was killed.*Run the same command again"):
            list(engine.run(os._exit, [1], useful=2))


@pytest.mark.slow
def test_dask_makes_the_same_store(write, tmp_path):
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'mace-gaunt[dask]'")
    paths = write(10)
    for name, workers in (("local", 1), ("dask", 2)):
        with open_engine(name, workers) as engine:
            prepare(Request(paths, tmp_path / name, 4.0, shard_size=7), engine)
    assert contents(tmp_path / "local") == contents(tmp_path / "dask")


@pytest.mark.slow
def test_a_running_dask_cluster(write, tmp_path):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'mace-gaunt[dask]'")
    request = Request(write(10), tmp_path / "dask", 4.0, shard_size=7)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        open_engine("dask", 1, cluster.scheduler_address) as engine,
    ):
        prepare(request, engine)
        with pytest.raises(UserError, match="r_max is a positive length"):
            list(engine.run(check_r_max, [1.0, -1.0, 2.0], useful=2))
    with open_engine("local", 1) as engine:
        assert prepare(request, engine).built == 0
    with pytest.raises(UserError, match="no Dask scheduler answers"), open_engine("dask", 1, "tcp://127.0.0.1:1"):
        pass


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Whether a process still runs; one that has ended may wait to be asked why."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
def test_killed_at_five_points_and_completed(write, tmp_path):
    """Five kills without warning, of the command and not of its two workers, which must end by themselves."""
    paths = write(300)
    with open_engine("local", 1) as engine:
        prepare(Request(paths, tmp_path / "undisturbed", 4.0, shard_size=20), engine)
    folder = tmp_path / "killed"
    words = [f"path={','.join(map(str, paths))}", f"out={folder}", "r_max=4", "workers=2", "shard_size=20"]
    code = "import sys; from mace_gaunt.cli.data_prepare import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *words]
    n_shards = [0]
    for kill in range(5):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while len(list(folder.glob("0*.json"))) < n_shards[-1] + 3 + kill and process.poll() is None:
                time.sleep(0.003 * (kill + 1))
            workers = children(process.pid)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        deadline = time.monotonic() + 30
        while any(map(is_alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert workers
        assert not any(map(is_alive, workers))
        n_shards.append(len(list(folder.glob("0*.json"))))
    assert n_shards == sorted(set(n_shards))
    assert n_shards[-1] < 60
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert contents(folder) == contents(tmp_path / "undisturbed")
