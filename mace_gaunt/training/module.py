"""The Lightning module: one training step, one validation, and what a checkpoint keeps."""

import logging
import math
from collections.abc import Callable, Iterable
from typing import Any

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mace_gaunt.errors import UserError
from mace_gaunt.model.compiled import is_compiled_for
from mace_gaunt.model.gradients import predict, reference_energy
from mace_gaunt.training.bad_steps import BadSteps, diagnose
from mace_gaunt.training.callbacks import EMA, EMA_KEY
from mace_gaunt.training.compilation import CompileChoice, check_choice, choose_gradient
from mace_gaunt.training.groups import apply_rates, apply_settings, parameter_groups, settings_of
from mace_gaunt.training.loss import WeightedLoss
from mace_gaunt.training.memory import free_memory, is_out_of_memory, smaller_parts
from mace_gaunt.training.metrics import ErrorMetrics, LossMetric
from mace_gaunt.training.passes import (
    Whole,
    count_whole,
    mean_over_processes,
    of_every_process,
    own_of,
    partial_loss,
    split_batch,
    world_size,
)
from mace_gaunt.training.random_state import random_state, restore_random_state
from mace_gaunt.training.schedulers import (
    Schedule,
    ScheduleFactory,
    restart_schedule,
    restore_schedule,
    scale_rates,
    schedule_state,
)
from mace_gaunt.training.stage_two import StageTwo
from mace_gaunt.training.stopping import StopTraining

log = logging.getLogger(__name__)

OptimizerFactory = Callable[[Iterable[dict[str, Any]]], Optimizer]


def interaction_reference(model: Any, batch: Any) -> Tensor:
    """Label of the interaction energy, shape [n_graphs], float64 (eV).

    The difference of two large numbers: it is taken in float64, before anything is cast to the model's dtype.
    """
    return batch.energy - reference_energy(model, batch)


class PotentialModule(lightning.LightningModule):
    """Trains a potential on energies, forces and stresses.

    The learning-rate schedule is stepped here and not by Lightning, which steps a plateau schedule only after the
    checkpoint of the epoch has been written, so that a resumed run would miss one step of it.

    Args:
        model: The potential, in the dtype it is trained in.
        loss: The loss; the second stage changes its weights in place.
        optimizer: Called with the parameter groups.
        scheduler: Factory of a schedule (`mace_gaunt.training.schedulers`); None keeps the rate.
        stage_two: The second stage; None for a single stage.
        compile: "off", "on" (or fail with the reason) or "auto" (when the run is long enough to earn it back).
        max_edges_per_pass: Bound on the edges that are computed at once: a batch with more is taken in parts, whose
            gradients add up to that of the batch (`mace_gaunt.training.passes`). None does not split.
        node_lr: Learning rate of the node products' weights over that of the others (`parameter_groups`).

    Raises:
        UserError: If max_edges_per_pass is below 1, or node_lr is not positive.
    """

    def __init__(
        self,
        model: Any,
        loss: WeightedLoss,
        optimizer: OptimizerFactory,
        scheduler: ScheduleFactory | None = None,
        stage_two: StageTwo | None = None,
        compile: CompileChoice = "off",
        max_edges_per_pass: int | None = None,
        node_lr: float = 1.0,
    ) -> None:
        super().__init__()
        if max_edges_per_pass is not None and max_edges_per_pass < 1:
            raise UserError(f"max_edges_per_pass is at least 1, not {max_edges_per_pass}.")
        if not (isinstance(node_lr, int | float) and 0.0 < node_lr < math.inf):
            raise UserError(f"node_lr is a positive number, not {node_lr}.")
        self.node_lr = node_lr
        self.model, self.loss = model, loss
        self.valid_errors, self.valid_loss = ErrorMetrics(), LossMetric()
        self.make_optimizer, self.make_schedule = optimizer, scheduler
        self.stage_two = stage_two
        self.stage_two_started = self.stage_two_called = False
        self.compile_choice = check_choice(compile)
        self._schedule: Schedule | None = None
        self._saved_schedule: dict[str, Any] | None = None
        self._settings: list[dict[str, Any]] = []
        self._saved_rates: list[float] | None = None
        self._gradient: Callable[..., Any] | None = None
        self._gradient_chosen = False
        self.max_edges_per_pass = max_edges_per_pass
        self._has_gradient = False
        self._bad_steps = BadSteps()
        self._batches: list[Any] = []
        self._batch_loss: tuple[Tensor, Tensor | int]
        self._stepped = 0
        self._forget_train_loss()

    # Optimizer, schedule, second stage

    def configure_optimizers(self) -> Optimizer:
        """The optimizer over the parameter groups, each with its rate."""
        optimizer = self.make_optimizer(parameter_groups(self.model, self.node_lr))
        apply_rates(optimizer)
        self._settings = settings_of(optimizer)
        return optimizer

    def _the_optimizer(self) -> Optimizer:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, Optimizer)
        return optimizer

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch; known once training has started."""
        return math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)

    @property
    def total_epochs(self) -> int:
        """Planned epochs of the whole training; 0 where it has no end."""
        by_steps = math.ceil(max(self.trainer.max_steps, 0) / self.steps_per_epoch)
        by_epochs = max(self.trainer.max_epochs or 0, 0)
        return min(filter(None, (by_steps, by_epochs)), default=0)

    @property
    def total_steps(self) -> int:
        """Planned optimizer steps of the whole training; 0 where it has no end."""
        steps = self.total_epochs * self.steps_per_epoch
        return min(steps, self.trainer.max_steps) if self.trainer.max_steps > 0 else steps

    def on_train_start(self) -> None:
        """Make the schedule now that the number of steps is known, and continue a saved one with today's settings."""
        self._stepped = self.trainer.global_step
        self._gradient_chosen = False
        if self.stage_two is not None:
            self.stage_two.first_epoch(self.total_epochs)
        optimizer = self._the_optimizer()
        self._make_schedule(optimizer)
        # What was restored has the settings of the first start, which resume=force may change.
        apply_settings(optimizer, self._settings)
        if self._saved_rates is not None:
            scale_rates(optimizer, self._schedule, self._saved_rates, self._rates_given())

    def _rates_given(self) -> list[float]:
        """The rate that the configuration gives each group."""
        return [float(group["lr"]) for group in self._settings]

    def _make_schedule(self, optimizer: Optimizer) -> None:
        if self.make_schedule is None:
            return
        rates = [group["lr"] for group in optimizer.param_groups]
        self._schedule = self.make_schedule(
            optimizer, total_steps=self.total_steps, steps_per_epoch=self.steps_per_epoch
        )
        if self._saved_schedule is not None:
            restore_schedule(self._schedule, self._saved_schedule)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate  # making a schedule sets its first rate

    def on_train_epoch_start(self) -> None:
        """Begin the second stage when its epoch has come or early stopping has called for it."""
        if not self.stage_two_waits:
            return
        assert self.stage_two is not None
        if self.stage_two_called or self.current_epoch >= self.stage_two.first_epoch(self.total_epochs):
            self._start_stage_two(self.stage_two)

    @property
    def stage_two_waits(self) -> bool:
        """Whether a second stage is configured and has not begun."""
        return self.stage_two is not None and not self.stage_two_started

    def call_stage_two(self) -> None:
        """Let the second stage begin with the next epoch."""
        self.stage_two_called = True

    @property
    def _callbacks(self) -> list[Any]:
        return self.trainer.callbacks  # type: ignore[attr-defined]

    def _start_stage_two(self, stage: StageTwo) -> None:
        stage.apply(self.loss)
        restart_schedule(self._the_optimizer(), self._schedule, stage.lr)
        for callback in self._callbacks:
            if hasattr(callback, "forget_best"):
                callback.forget_best()
        self.stage_two_started = True
        self.print(
            f"stage two from epoch {self.current_epoch + 1}: loss weights {self.loss.weights}, lr {self._rate():g}"
        )

    def _rate(self) -> float:
        return float(self._the_optimizer().param_groups[0]["lr"])

    # Training

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Loss of one batch, shape [], or its share that is still to be differentiated when it is taken in parts."""
        self._batches.append(batch)
        return self._with_room(batch, batch_idx)

    def _with_room(self, batch: Any, batch_idx: int) -> Tensor:
        while True:
            try:
                return self._all_but_last(batch, batch_idx)
            except (RuntimeError, MemoryError) as error:
                self._make_room(error, batch)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Differentiate; a batch that does not fit into memory is begun anew, in parts, with the same gradient."""
        try:
            loss.backward()
            return
        except (RuntimeError, MemoryError) as error:
            self._make_room(error, self._batches[-1])
        # Outside of the handler, which would keep what the failed attempt held. The batch is the first of its step.
        rest = self._with_room(self._batches[-1], 0)
        self._has_gradient = False
        self.backward(rest)

    def _make_room(self, error: BaseException, batch: Any) -> None:
        """Compute in smaller parts from here on, if memory is what there is not enough of."""
        if not is_out_of_memory(error):
            raise error
        if world_size() > 1 or self.trainer.accumulate_grad_batches > 1:
            raise UserError(
                "out of memory, in a training of several processes or with accumulated batches, where a batch cannot "
                f"be begun anew: give max_edges_per_pass={smaller_parts(batch, self.max_edges_per_pass)}"
            ) from error
        self.max_edges_per_pass = smaller_parts(batch, self.max_edges_per_pass)
        self._the_optimizer().zero_grad()
        free_memory()
        log.warning(
            "out of memory: from here on batches are computed in parts of at most %d edges, with the same gradient; "
            "max_edges_per_pass=%d does so from the start",
            *(self.max_edges_per_pass,) * 2,
        )

    def _all_but_last(self, batch: Any, batch_idx: int) -> Tensor:
        """Differentiate all parts of a batch but the last, whose loss is returned."""
        parts = split_batch(batch, self.max_edges_per_pass)
        whole = count_whole(self.loss, batch) if len(parts) > 1 or world_size() > 1 else None
        if not self._gradient_chosen and is_compiled_for(parts[0].node_types, parts[0].pair_index):
            self._choose_gradient(parts[0])
        if len(parts) > 1 and batch_idx % self.trainer.accumulate_grad_batches == 0:
            # Before the first part; Lightning's own call would come after it.
            self._the_optimizer().zero_grad()
            self._has_gradient = True
        losses = []
        for part in parts[:-1]:
            losses.append(self._partial_loss(part, whole))
            (losses[-1] / self.trainer.accumulate_grad_batches).backward()
        losses.append(self._partial_loss(parts[-1], whole))
        self._batch_loss = torch.stack(losses).detach().sum(), batch.num_graphs if whole is None else whole.n_frames
        return losses[-1]

    def _partial_loss(self, batch: Any, whole: Whole | None) -> Tensor:
        if not batch.num_graphs:
            # A process whose data have come to their end: it steps with the others, and adds nothing.
            return torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0.0
        prediction = predict(self.model, batch, stress=self.loss.needs_stress, training=True, gradient=self._gradient)
        sums = self.loss.sums(prediction, batch, interaction_reference(self.model, batch))
        return partial_loss(self.loss, sums, whole)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Forget the gradients, unless those of the first parts of this batch are among them."""
        if not self._has_gradient:
            optimizer.zero_grad()
        self._has_gradient = False

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Leave out a step whose gradient is no number: nothing is applied, and the reason is told.

        Raises:
            UserError: After several in a row.
        """
        batches, self._batches = self._batches, []
        if self._bad_steps.is_bad(self.parameters()):
            optimizer.zero_grad()
            where = (
                f"in epoch {self.current_epoch + 1} at step {self.trainer.global_step + 1} "
                f"(learning rate {self._rate():g})"
            )
            self._bad_steps.tell(where, diagnose(self.model, self.loss, batches, self.max_edges_per_pass))

    def _choose_gradient(self, batch: Any) -> None:
        steps_left = self.total_steps - self.trainer.global_step if self.total_steps else math.inf
        self._gradient = choose_gradient(self.compile_choice, self.model, self.loss, batch, steps_left)
        self._gradient_chosen = True

    def _forget_train_loss(self) -> None:
        self._train_loss: Tensor | float = 0.0
        self._train_frames: Tensor | int = 0

    def _add_train_loss(self, loss: Tensor, n_frames: Tensor | int) -> None:
        # Sums and no self.log: Lightning's bookkeeping of a logged value costs more than the step of a small model.
        # A step that is no number is left out here as well.
        counts = loss.isfinite()
        self._train_loss = self._train_loss + torch.where(counts, loss.double() * n_frames, 0.0)
        self._train_frames = self._train_frames + n_frames * counts

    @property
    def mean_train_loss(self) -> float:
        """Mean loss over the frames seen since the last validation; waits for the device."""
        total = torch.as_tensor(self._train_loss, dtype=torch.float64)
        return float(mean_over_processes(total)) / max(int(self._train_frames), 1)

    @property
    def own_train_loss(self) -> float:
        """What this process knows of `mean_train_loss`: all of it where it trains alone; asks no other process."""
        return float(self._train_loss) / max(int(self._train_frames), 1)

    def on_train_batch_end(self, outputs: STEP_OUTPUT, batch: Any, batch_idx: int) -> None:
        """Step the schedule after an optimizer step, and stop where it is told."""
        self._add_train_loss(*self._batch_loss)
        if self.trainer.global_step > self._stepped:
            self._stepped = self.trainer.global_step
            if self._schedule is not None and not isinstance(self._schedule, ReduceLROnPlateau):
                self._schedule.step()
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0:
            for callback in self._callbacks:
                if isinstance(callback, StopTraining):
                    callback.after_step(self.trainer)

    def _stop_if_not_finite(self, loss: float, name: str) -> None:
        if not math.isfinite(loss):
            raise UserError(
                f"the {name} loss is {loss} in epoch {self.current_epoch + 1} at step {self.trainer.global_step} "
                f"(learning rate {self._rate():g}): training stopped. checkpoints/last.ckpt is the state "
                "after the last good epoch. Look for wrong labels or overlapping atoms, or lower optimizer.lr"
            )

    # Validation

    def on_validation_epoch_start(self) -> None:
        """Start new sums."""
        self.valid_errors.reset()
        self.valid_loss.reset()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add the errors of one batch."""
        for part in split_batch(batch, self.max_edges_per_pass):
            if not part.num_graphs:
                continue
            prediction = predict(self.model, part, stress=self.loss.needs_stress, gradient=self._gradient)
            self.valid_errors.update(prediction, part)
            self.valid_loss.update(self.loss.sums(prediction, part, interaction_reference(self.model, part)))

    def on_validation_epoch_end(self) -> None:
        """Log the errors of the whole set, and step a plateau schedule."""
        parts = self.valid_loss.compute()
        terms = {f"loss_{name}": self.loss.weights[name] * part for name, part in parts.items()}
        errors = {"loss": self.loss.combine(parts), **terms, **self.valid_errors.compute()}
        values = {f"valid/{name}": value for name, value in errors.items()}
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            values = self._training_values() | values
            self._stop_if_not_finite(float(values["train/loss"]), "training")
            self._stop_if_not_finite(float(values["valid/loss"]), "validation")
            if isinstance(self._schedule, ReduceLROnPlateau):
                self._schedule.step(float(values["valid/loss"]))
        self.log_dict(values)

    def _training_values(self) -> dict[str, Tensor]:
        values = {"train/loss": self.mean_train_loss, "lr": self._rate()}
        self._forget_train_loss()
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add random state, schedule, stage, running loss, what `auto` chose: plain numbers, lists and tensors."""
        checkpoint["random_state"] = random_state()
        checkpoint["rates"] = self._rates_given()
        checkpoint["schedule"] = None if self._schedule is None else schedule_state(self._schedule)
        checkpoint["stage_two"] = {"started": self.stage_two_started, "called": self.stage_two_called}
        checkpoint["train_loss"] = (of_every_process(float(self._train_loss)), int(self._train_frames))
        checkpoint["compiled"] = self._gradient is not None if self._gradient_chosen else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue a training: random state, schedule, stage, running loss, and compiled or not as before."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        if EMA_KEY in checkpoint and not any(isinstance(callback, EMA) for callback in self._callbacks):
            raise UserError("the checkpoint has averaged weights: resume with the ema callback it was written with")
        restore_random_state(checkpoint["random_state"])
        self._saved_schedule = checkpoint["schedule"]
        self._saved_rates = checkpoint.get("rates")  # earlier versions did not note them
        losses, self._train_frames = checkpoint["train_loss"]
        self._train_loss = own_of(losses)
        if checkpoint["stage_two"]["started"] and self.stage_two is None:
            raise UserError("the checkpoint is from a second stage: resume with the same stage_two")
        self.stage_two_started = checkpoint["stage_two"]["started"]
        self.stage_two_called = checkpoint["stage_two"]["called"]
        if self.compile_choice == "auto" and (compiled := checkpoint.get("compiled")) is not None:
            # Fewer steps are left now, and might not be worth compiling; but they are to round as the first ones did.
            self.compile_choice = "on" if compiled else "off"
        if self.stage_two_started and self.stage_two is not None:
            self.stage_two.apply(self.loss)
