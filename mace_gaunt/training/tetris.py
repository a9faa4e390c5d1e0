"""Learns to name the eight Tetris pieces: which of their scalars a tensor product reaches decides what can be learned.

The pieces fall into seven classes, the two mirror images being one; a pseudoscalar tells these apart, since it changes
sign in a mirror. Without one, eight classes are asked of the even scalars.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid
from torch.optim import Optimizer

from mace_gaunt.data.tetris import NAMES, NUM_CHIRAL
from mace_gaunt.errors import UserError
from mace_gaunt.model.gradients import edge_vectors
from mace_gaunt.model.graph_scalars import GraphScalars

NUM_PIECES = len(NAMES)
# (even, odd) scalars that the task can be put in.
OUTPUTS = {(NUM_PIECES - NUM_CHIRAL + 1, 1): "7x0e + 1x0o", (NUM_PIECES, 0): "8x0e"}


@dataclass(frozen=True)
class Epoch:
    """One step of the training.

    Attributes:
        epoch: Number of the step, from 1.
        loss: Mean negative log-likelihood of the right names, before the step.
        pieces_right: Pieces that are named right, before the step.
    """

    epoch: int
    loss: float
    pieces_right: int


class TetrisTrainer:
    """Trains on all pieces at once, as they lie: one step is one epoch.

    Args:
        max_epochs: Steps.
        log_every_n_epochs: Steps between two lines on the terminal.

    Raises:
        UserError: If a number is below 1.
    """

    def __init__(self, max_epochs: int = 200, log_every_n_epochs: int = 50) -> None:
        for name, value in (("max_epochs", max_epochs), ("log_every_n_epochs", log_every_n_epochs)):
            if value < 1:
                raise UserError(f"{name} is at least 1, found {value}.")
        self.max_epochs, self.log_every_n_epochs = max_epochs, log_every_n_epochs

    def fit(
        self,
        model: GraphScalars,
        batch: Any,
        make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        log: Callable[[Epoch], None] = lambda epoch: None,
    ) -> list[Epoch]:
        """Train.

        Args:
            model: The model, changed in place.
            batch: All pieces, in the order of `NAMES`, on the model's device.
            make_optimizer: Called with the model's parameters.
            log: Called every `log_every_n_epochs` and at the end.

        Returns:
            What every step saw.

        Raises:
            UserError: If the loss is no number any more.
        """
        optimizer, history = make_optimizer(model.parameters()), []
        for number in range(1, self.max_epochs + 1):
            chances = log_probabilities(*scalars(model, batch))
            loss = chances.diagonal().neg().mean()
            history.append(Epoch(number, loss.item(), count_right(chances)))
            if not torch.isfinite(loss):
                raise UserError(f"the loss is {loss.item()} in epoch {number}: training stopped. Lower optimizer.lr.")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if number % self.log_every_n_epochs == 0 or number == self.max_epochs:
                log(history[-1])
        return history


def scalars(model: GraphScalars, batch: Any) -> tuple[Tensor, Tensor]:
    """The outputs of a batch of pieces: 0e, shape [n_graphs, num_even], and 0o, shape [n_graphs, num_odd]."""
    vectors = edge_vectors(batch).to(model.dtype)
    result: tuple[Tensor, Tensor] = model(vectors, batch.node_types, batch.edge_index, batch.batch, batch.num_graphs)
    return result


def log_probabilities(even: Tensor, odd: Tensor) -> Tensor:
    """Log-probability of every name.

    With a pseudoscalar, the first class is that of both mirror images, and its sign decides between them.

    Args:
        even: Shape [n, 7], or [n, 8] without pseudoscalar.
        odd: Shape [n, 1] or [n, 0].

    Returns:
        Shape [n, 8], names in the order of `NAMES`.
    """
    classes = log_softmax(even, dim=1)
    if odd.shape[1] == 0:
        return classes
    chiral = classes[:, :1] + logsigmoid(torch.cat([odd, -odd], dim=1))
    return torch.cat([chiral, classes[:, 1:]], dim=1)


def count_right(chances: Tensor) -> int:
    """Pieces that are named right, of log-probabilities [8, 8]."""
    names = torch.arange(NUM_PIECES, device=chances.device)
    return int((chances.argmax(dim=1) == names).sum())


def epochs_needed(history: list[Epoch]) -> int | None:
    """Steps after which all pieces are named right until the end; None when they are not."""
    wrong = [entry.epoch for entry in history if entry.pieces_right < NUM_PIECES]
    # What is wrong before step n is mended by it at the earliest.
    last = wrong[-1] if wrong else 0
    return None if last == history[-1].epoch else last


def check_outputs(model: GraphScalars) -> None:
    """Refuse outputs that do not name eight pieces.

    Raises:
        UserError: Naming those that do.
    """
    if (model.num_even, model.num_odd) not in OUTPUTS:
        raise UserError(
            f"outputs of {model.num_even} x 0e and {model.num_odd} x 0o do not name the eight pieces. Choose "
            f"{' or '.join(f'model.outputs={outputs!r}' for outputs in OUTPUTS.values())}."
        )
