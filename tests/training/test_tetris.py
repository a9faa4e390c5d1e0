"""Learning to name the pieces, and trying out what was learned."""

import functools
import json
import math

import pytest
import torch
from small_models import CHOICES

from mace_gaunt.data.tetris import NAMES, TetrisPieces
from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.tetris import describe_report, try_out, write_report
from mace_gaunt.model.graph_scalars import GraphScalars
from mace_gaunt.training.tetris import (
    Epoch,
    TetrisTrainer,
    check_outputs,
    count_right,
    epochs_needed,
    log_probabilities,
    scalars,
)

ADAM = functools.partial(torch.optim.Adam, lr=0.01)
FLOOR = 2 * math.log(2) / len(NAMES)
"""Least loss of who gives both mirror images the same outputs."""


@pytest.fixture(scope="module")
def pieces():
    return TetrisPieces(r_max=1.1, num_rotations=3)


def build(choice, outputs, pieces, seed=0):
    """The model of configs/experiment/tetris.yaml, with half the channels."""
    torch.manual_seed(seed)
    edge_product, node_product = (functools.partial(factory) for factory in CHOICES[choice])
    model = GraphScalars(
        outputs=outputs,
        r_max=1.1,
        num_polynomial_cutoff=50,
        max_ell=2,
        num_channels=8,
        radial_MLP=[8],
        avg_num_neighbors=pieces.avg_num_neighbors,
        edge_product=edge_product,
        node_product=node_product,
    )
    return model.double()


def learn(choice, outputs, pieces, epochs):
    model = build(choice, outputs, pieces)
    history = TetrisTrainer(max_epochs=epochs).fit(model, pieces.batch, ADAM)
    return model, history, try_out(model, pieces, history)


@pytest.mark.parametrize("choice", ["vector_gaunt", "matrix", "cg_pseudo_edge_cg_node"])
def test_with_0o_all_pieces_are_named_and_the_mirror_images_told_apart(choice, pieces):
    _, history, report = learn(choice, "7x0e + 1x0o", pieces, 100)
    assert report.pieces_right == 8
    assert report.chiral_pair_separated
    assert report.epochs_needed == epochs_needed(history) <= 100
    assert max(report.rotation_error, report.inversion_error) < 1e-10
    rows = {row.piece: row for row in report.rows}
    assert (rows["chiral_1"].mirror_named, rows["chiral_2"].mirror_named) == ("chiral_2", "chiral_1")
    assert rows["chiral_1"].odd > 0 > rows["chiral_2"].odd
    assert abs(rows["chiral_1"].odd + rows["chiral_2"].odd) < 1e-10 * report.output_scale
    # What is its own mirror image has no odd scalar.
    assert max(abs(row.odd) for row in report.rows[2:]) < 1e-10 * report.output_scale


@pytest.mark.parametrize("choice", ["gaunt", "clebsch_gordan", "vector_gaunt"])
def test_with_0e_alone_mirror_images_are_the_same_to_every_family(choice, pieces):
    model = build(choice, "8x0e", pieces)
    with torch.no_grad():
        even, _ = scalars(model, pieces.batch)
    assert (even[0] - even[1]).abs().max() < 1e-10
    assert (even[0] - even[2:]).abs().amax(dim=1).min() > 1e-3


def test_gaunt_learns_the_rest(pieces):
    _, _, report = learn("gaunt", "8x0e", pieces, 150)
    assert [row.right for row in report.rows[2:]] == [1.0] * 6
    assert not report.chiral_pair_separated
    assert report.chiral_distance < 1e-10 * report.output_scale
    assert FLOOR - 1e-12 <= report.loss < FLOOR + 0.1
    assert report.epochs_needed is None
    assert "mirror images told apart    no" in describe_report(report)


def test_the_same_seed_gives_the_same_training(pieces):
    first, second = (learn("matrix", "7x0e + 1x0o", pieces, 3)[1] for _ in range(2))
    assert first == second
    assert first[0].loss > first[-1].loss


def test_the_sign_of_the_odd_scalar_decides_between_the_mirror_images():
    even, odd = torch.zeros(2, 7), torch.tensor([[3.0], [-3.0]])
    even[:, 0] = 20
    chances = log_probabilities(even, odd)
    assert chances.argmax(dim=1).tolist() == [0, 1]
    assert torch.allclose(chances.exp().sum(dim=1), torch.ones(2))
    assert log_probabilities(torch.eye(8), torch.zeros(8, 0)).argmax(dim=1).tolist() == list(range(8))
    assert count_right(torch.eye(8)) == 8
    assert count_right(torch.eye(8)[[1, 0, 2, 3, 4, 5, 6, 7]]) == 6


def test_epochs_needed_counts_to_the_last_mistake():
    def history(*right):
        return [Epoch(number, 0.1, count) for number, count in enumerate(right, start=1)]

    assert epochs_needed(history(5, 8, 7, 8, 8)) == 3
    assert epochs_needed(history(8, 8)) == 0
    assert epochs_needed(history(8, 8, 7)) is None


def test_progress_is_told_and_what_is_not_finite_ends_it(pieces):
    told = []
    model = build("matrix", "7x0e + 1x0o", pieces)
    TetrisTrainer(max_epochs=5, log_every_n_epochs=2).fit(model, pieces.batch, ADAM, told.append)
    assert [entry.epoch for entry in told] == [2, 4, 5]
    with pytest.raises(UserError, match=r"the loss is nan in epoch 2.*Lower optimizer\.lr"):
        TetrisTrainer(5).fit(model, pieces.batch, functools.partial(ADAM, lr=1e300))


def test_the_report_is_written(pieces, tmp_path):
    _, history, report = learn("matrix", "7x0e + 1x0o", pieces, 2)
    write_report(tmp_path, report, history)
    assert json.loads((tmp_path / "tetris.json").read_text())["epochs"] == 2
    lines = (tmp_path / "tetris.csv").read_text().splitlines()
    assert lines[0] == "piece,right,named,mirror_named,odd"
    assert [line.split(",")[0] for line in lines[1:]] == list(NAMES)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == "epoch,loss,pieces_right"
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3


def test_impossible_settings_are_refused(pieces):
    for settings in ({"max_epochs": 0}, {"log_every_n_epochs": 0}):
        with pytest.raises(UserError, match="is at least 1, found 0"):
            TetrisTrainer(**settings)
    with pytest.raises(UserError, match=r"6 x 0e and 1 x 0o.*7x0e \+ 1x0o.*8x0e"):
        check_outputs(build("matrix", "6x0e + 1x0o", pieces))
