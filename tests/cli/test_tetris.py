"""The Tetris task through the command line, in a few epochs of a small model."""

import csv
import json

import pytest
import yaml

SMALL = ["experiment=tetris", "num_channels=4", "device=cpu"]
PSEUDO = ["tensor_product=clebsch_gordan", "model.edge_product.pseudo=true"]
FILES = {"config.yaml", "metrics.csv", "run.json", "tetris.csv", "tetris.json"}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_and_what_it_leaves(command, tmp_path):
    status, out, err = command("train", *SMALL, "max_epochs=3", "run=a")
    assert status == 0, err
    for text in (
        "outputs 7x0e + 1x0o",
        "family vector_gaunt, kernel poisson",
        "epoch     3",
        "mirror images told apart",
    ):
        assert text in out
    folder = tmp_path / "runs" / "a"
    assert {path.name for path in folder.iterdir()} == FILES
    assert [row["epoch"] for row in rows(folder / "metrics.csv")] == ["1", "2", "3"]
    record = json.loads((folder / "run.json").read_text())
    assert (record["epochs"], record["data_sha256"]) == (3, {})
    assert set(record["kernels"].values()) == {"poisson"}
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["avg_num_neighbors"] == 50 / 32


def test_the_configuration_runs_again_and_gives_the_same(command, tmp_path):
    assert command("train", *SMALL, "max_epochs=2", "run=a")[0] == 0
    status, _, err = command("train", "runs/a/config.yaml", "run=b")
    assert status == 0, err
    assert rows(tmp_path / "runs" / "a" / "metrics.csv") == rows(tmp_path / "runs" / "b" / "metrics.csv")


def test_an_occupied_folder_is_kept_unless_it_is_overwritten(command, refused, tmp_path):
    assert command("train", *SMALL, "max_epochs=3", "run=a")[0] == 0
    (tmp_path / "runs" / "a" / "notes.txt").write_text("kept")
    assert "overwrite=true to replace it" in refused("train", *SMALL, "run=a")
    assert command("train", *SMALL, "max_epochs=1", "run=a", "overwrite=true")[0] == 0
    assert len(rows(tmp_path / "runs" / "a" / "metrics.csv")) == 1
    assert (tmp_path / "runs" / "a" / "notes.txt").read_text() == "kept"


def test_nothing_is_left_of_a_training_that_fails(command, tmp_path):
    status, _, err = command("train", *SMALL, "lr=1e300", "run=a")
    assert status == 2
    assert "the loss is nan in epoch 2" in err
    assert not (tmp_path / "runs" / "a").exists()


@pytest.mark.parametrize(
    "words", [[], PSEUDO, ["tensor_product=matrix"], ["tensor_product=gaunt", "model.outputs=8x0e"]]
)
def test_validation_writes_nothing(words, command, tmp_path):
    status, out, err = command("train", *SMALL, *words, "--validate-only")
    assert status == 0, err
    assert "nothing was written" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "kernels"),
    [
        (["kernel=vsh"], {"vsh"}),
        ([*PSEUDO, "kernel=aligned"], {"aligned", "dense"}),
    ],
)
def test_the_kernel_is_chosen_by_name(words, kernels, command, tmp_path):
    status, out, err = command("train", *SMALL, *words, "max_epochs=1", "run=a")
    assert status == 0, err
    assert all(f"kernel {kernel}" in out for kernel in kernels)
    assert set(json.loads((tmp_path / "runs" / "a" / "run.json").read_text())["kernels"].values()) == kernels


def test_gaunt_without_0o_trains_and_says_that_mirror_images_are_the_same(command, tmp_path):
    status, out, err = command("train", *SMALL, "tensor_product=gaunt", "model.outputs=8x0e", "max_epochs=40", "run=a")
    assert status == 0, err
    assert "mirror images told apart    no" in out
    report = json.loads((tmp_path / "runs" / "a" / "tetris.json").read_text())
    assert report["chiral_pair_separated"] is False
    assert report["chiral_distance"] < 1e-10 * report["output_scale"]
    assert max(report["rotation_error"], report["inversion_error"]) < 1e-10


@pytest.mark.parametrize(
    ("product", "edge", "node"),
    [
        ("gaunt", "gaunt", "gaunt"),
        ("cg_edge_gaunt_node", "clebsch_gordan", "gaunt"),
    ],
)
def test_families_without_a_path_to_0o_say_so_before_any_work(product, edge, node, refused):
    error = refused("train", *SMALL, f"tensor_product={product}")
    assert f"0o cannot be reached: edge product (family '{edge}') and node product (family '{node}')" in error
    for text in ("1o x 1o -> 1e", "1e x 1o -> 0o", "tensor_product=vector_gaunt", "pseudo=true", "without 0o"):
        assert text in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=tetri"], "Did you mean 'tetris'?"),
        (["task=tetris"], "task=tetris needs data=tetris: experiment=tetris chooses all"),
        (["experiment=tetris", "task=potential"], "data=tetris is for task=tetris only"),
        (["model=graph_scalars"], "model=graph_scalars is for task=tetris only"),
        (["experiment=tetris", "data=3bpa_xtb"], "task=tetris needs data=tetris"),
        (["experiment=tetris", "model=mace"], "task=tetris needs model=graph_scalars"),
        (["experiment=tetris", "optimizer=null"], "there is no optimizer"),
        (["experiment=tetris", "loss=mse"], "loss has no effect on task=tetris"),
        (["experiment=tetris", "compile=on"], "compile has no effect on task=tetris"),
        (["experiment=tetris", "run=a", "resume=auto"], "resume has no effect on task=tetris"),
        (["experiment=tetris", "batch_size=2"], "no key 'data.batch_size'. Known: num_rotations"),
        (["experiment=tetris", "model.outputs=7x0e + 1x1o"], "outputs holds scalars only, as '7x0e + 1x0o'"),
        (["experiment=tetris", "model.outputs=3x0e"], "Choose model.outputs='7x0e + 1x0o' or model.outputs='8x0e'"),
        (["experiment=tetris", *PSEUDO, "max_L=0"], "0o cannot be reached with max_ell=2, max_L=0"),
        (["experiment=tetris", "kernel=dense"], "kernel 'dense' computes family clebsch_gordan"),
        (["experiment=tetris", "r_max=0.9"], "must be above 1"),
    ],
)
def test_mistakes(words, message, refused):
    assert message in refused("train", *words)


def test_a_sweep_compares_families_and_tells_which_cannot(command, tmp_path):
    status, out, err = command(
        "train", "--multirun", *SMALL, "max_epochs=2", "tensor_product=matrix,gaunt", "run=sweep"
    )  # fmt: skip
    assert status == 1
    assert "0o cannot be reached" in err
    matrix, gaunt = rows(tmp_path / "runs" / "sweep" / "sweep.csv")
    assert (matrix["overrides"], matrix["chiral_pair_separated"], matrix["epochs"]) == (
        "tensor_product=matrix", "False", "2",
    )  # fmt: skip
    assert "0o cannot be reached" in gaunt["error"]
    assert "of 8 pieces named right, mirror images not told apart" in out
