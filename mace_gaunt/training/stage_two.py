"""The second stage of a training: other loss weights and another learning rate for the last epochs."""

from dataclasses import dataclass

from mace_gaunt.errors import UserError
from mace_gaunt.training.loss import WeightedLoss


@dataclass(frozen=True)
class StageTwo:
    """When the second stage begins and what it changes, as MACE's `stage_two`.

    Forces decide what a model learns first, the energy weight of the second stage decides its energy errors. At the
    switch the loss weights are replaced, the learning rate becomes `lr` and its schedule goes on from there
    (`restart_schedule`), and what was best before is forgotten: the best checkpoint and early stopping are those of
    the second stage, because a loss with other weights is another quantity. The averaged weights go on unchanged.

    Args:
        start: Below 1 the fraction of the epochs after which it begins; from 1 on the epoch, counted from 0.
        energy_weight: New weight of the energy term; None keeps it. The same for the two others.
        forces_weight: New weight of the forces term.
        stress_weight: New weight of the stress term.
        lr: New learning rate; None keeps it.

    Raises:
        UserError: If a number is negative or `start` is neither a fraction nor an epoch.
    """

    start: float = 0.75
    energy_weight: float | None = 1000.0
    forces_weight: float | None = 100.0
    stress_weight: float | None = None
    lr: float | None = 1e-3

    def __post_init__(self) -> None:
        if self.start < 0 or (self.start > 1 and self.start != int(self.start)):
            raise UserError(f"stage_two.start is a fraction below 1 or a whole epoch, found {self.start}")
        if self.lr is not None and self.lr <= 0:
            raise UserError(f"stage_two.lr must be positive, found {self.lr}")
        self.apply(WeightedLoss())  # a negative weight is told before training, not at the switch

    def first_epoch(self, max_epochs: int) -> int:
        """The epoch, counted from 0, at whose beginning the stage starts.

        Args:
            max_epochs: Epochs of the whole training; 0 where it has no end.

        Raises:
            UserError: If the training ends before it, or has no end of which `start` could be a fraction.
        """
        if max_epochs == 0 and self.start < 1:
            raise UserError(
                f"stage_two.start={self.start} is a fraction of the epochs, and a training without an end has no "
                "number of them: give max_epochs, or a whole epoch as start"
            )
        epoch = int(self.start * max_epochs + 1e-9) if self.start < 1 else int(self.start)  # 0.7 * 10 is below 7
        if 0 < max_epochs <= epoch:
            raise UserError(
                f"stage_two.start={self.start} is epoch {epoch}, but the training has only {max_epochs} epochs: "
                "start it earlier, or set stage_two to null"
            )
        return epoch

    def apply(self, loss: WeightedLoss) -> None:
        """Give a loss the weights of this stage."""
        loss.set_weights(energy=self.energy_weight, forces=self.forces_weight, stress=self.stress_weight)
