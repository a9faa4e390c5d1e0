"""Tries a model of the Tetris pieces in many rotations and in a mirror, and says how exactly it is equivariant."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from mace_gaunt.data.tetris import NAMES, NUM_CHIRAL, TetrisPieces
from mace_gaunt.files import write_csv
from mace_gaunt.model.graph_scalars import GraphScalars
from mace_gaunt.training.tetris import Epoch, epochs_needed, log_probabilities, scalars


@dataclass(frozen=True)
class PieceRow:
    """How one piece fares.

    Attributes:
        piece: Its name.
        right: Share of its rotations that are named right.
        named: What it is named as it lies.
        mirror_named: What its mirror image is named.
        odd: Its pseudoscalar as it lies; None without one.
    """

    piece: str
    right: float
    named: str
    mirror_named: str
    odd: float | None


@dataclass(frozen=True)
class TetrisReport:
    """What a trained model can do.

    Attributes:
        rows: One per piece.
        pieces_right: Pieces that are named right in every rotation.
        chiral_pair_separated: Whether both mirror images are among them.
        chiral_distance: Largest difference between the outputs of the two mirror images.
        output_scale: Largest output of all; the errors below are relative to it.
        rotation_error: Largest change of an output by a rotation.
        inversion_error: Largest change of a 0e, or of a 0o times -1, by an inversion.
        loss: Of the last epoch.
        epochs: Done.
        epochs_needed: Until all pieces were named right for good; None if that did not happen.
    """

    rows: list[PieceRow]
    pieces_right: int
    chiral_pair_separated: bool
    chiral_distance: float
    output_scale: float
    rotation_error: float
    inversion_error: float
    loss: float
    epochs: int
    epochs_needed: int | None


@torch.no_grad()
def try_out(model: GraphScalars, pieces: TetrisPieces, history: list[Epoch]) -> TetrisReport:
    """Name every piece in every rotation, and compare the outputs.

    Args:
        model: The trained model.
        pieces: The pieces.
        history: Of its training.

    Returns:
        The report.
    """
    device = model.even_weight.device

    def outputs(matrix: Tensor) -> tuple[Tensor, Tensor]:
        even, odd = scalars(model, pieces.transformed(matrix).to(device))
        return even.cpu(), odd.cpu()

    lying, mirrored = outputs(torch.eye(3)), outputs(-torch.eye(3))
    turned = [outputs(matrix) for matrix in pieces.rotations]
    names = torch.stack([log_probabilities(*pair).argmax(dim=1) for pair in turned])
    right = names == torch.arange(len(NAMES))
    both = torch.cat(lying, dim=1)
    scale = float(both.abs().max())
    rotation = max(float((torch.cat(pair, dim=1) - both).abs().max()) for pair in turned)
    inversion = float((torch.cat([mirrored[0], -mirrored[1]], dim=1) - both).abs().max())
    return TetrisReport(
        rows=_rows(right.double().mean(dim=0), lying, mirrored),
        pieces_right=int(right.all(dim=0).sum()),
        chiral_pair_separated=bool(right[:, :NUM_CHIRAL].all()),
        chiral_distance=float((both[0] - both[1]).abs().max()),
        output_scale=scale,
        rotation_error=rotation / scale,
        inversion_error=inversion / scale,
        loss=history[-1].loss,
        epochs=history[-1].epoch,
        epochs_needed=epochs_needed(history),
    )


def _rows(right: Tensor, lying: tuple[Tensor, Tensor], mirrored: tuple[Tensor, Tensor]) -> list[PieceRow]:
    named, mirror_named = (log_probabilities(*pair).argmax(dim=1) for pair in (lying, mirrored))
    odd = lying[1][:, 0].tolist() if lying[1].shape[1] else [None] * len(NAMES)
    return [
        PieceRow(piece, float(right[index]), NAMES[int(named[index])], NAMES[int(mirror_named[index])], odd[index])
        for index, piece in enumerate(NAMES)
    ]


def describe_report(report: TetrisReport) -> str:
    """The report for the terminal."""
    lines = [f"{'piece':10} {'right':>6}  {'named':10} {'mirror image':14} {'0o':>8}"]
    for row in report.rows:
        odd = "" if row.odd is None else f"{row.odd:+8.1e}"
        lines.append(f"{row.piece:10} {row.right:6.0%}  {row.named:10} {row.mirror_named:14} {odd}".rstrip())
    needed = f"after {report.epochs_needed} epochs" if report.epochs_needed is not None else "never all at once"
    lines += [
        f"right in every rotation     {report.pieces_right} of {len(NAMES)} pieces ({needed})",
        f"mirror images told apart    {'yes' if report.chiral_pair_separated else 'no'}: their outputs differ by "
        f"{report.chiral_distance:.2g}, the largest output is {report.output_scale:.2g}",
        f"equivariance error          rotations {report.rotation_error:.1e}, inversion {report.inversion_error:.1e}",
    ]
    return "\n".join(lines)


def write_report(folder: Path, report: TetrisReport, history: list[Epoch]) -> None:
    """Write metrics.csv, one row per epoch, tetris.csv, one per piece, and tetris.json, everything else.

    Args:
        folder: The run folder.
        report: The report.
        history: Of the training.
    """
    write_csv(folder / "metrics.csv", [asdict(entry) for entry in history], floats="")
    content = asdict(report)
    write_csv(folder / "tetris.csv", content.pop("rows"), floats="")
    (folder / "tetris.json").write_text(json.dumps(content, indent=2) + "\n")
