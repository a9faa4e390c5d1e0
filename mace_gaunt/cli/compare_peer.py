"""mace-torch as a member: the same split files, settings and budget, by its own commands in its own environment."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase
import ase.io

from mace_gaunt.benchmark.peer.sides import find_peer
from mace_gaunt.cli.build import build_data
from mace_gaunt.cli.compare_plan import Comparison, first_difference
from mace_gaunt.cli.compose import complete_plain
from mace_gaunt.cli.request import leaves
from mace_gaunt.cli.run_folder import write_json
from mace_gaunt.comparison.local import Cores, Training
from mace_gaunt.comparison.measure import to_atoms
from mace_gaunt.comparison.members import FINISHED, SEED, Member, read_json, state_of
from mace_gaunt.comparison.peer import FINAL_RATE, JOB
from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.errors import UserError
from mace_gaunt.simulation.loading import choose_device
from mace_gaunt.training.groups import ADAM

GATES = {"silu": "silu", "tanh": "tanh", "abs": "abs", "identity": "None"}
"""Our names of activations -> those of mace_run_train."""
ALWAYS = {"selfmix": None, "zbl": False, "interaction": "residual", "radial": None, "readouts": None, "heads": None}
"""Keys of the model -> what mace_run_train is left to build; other values are not translated."""
EARLIER = {
    "options.num_radial_basis": 8,
    "options.num_cutoff_basis": 5,
    "options.radial_MLP": "[64, 64, 64]",
    "options.MLP_irreps": "16x0e",
    "options.gate": "silu",
    "options.optimizer": "adam",
}
"""What mace_run_train takes by default, and earlier versions left to it."""
NOT_SETTINGS = re.compile(r"(python|splits|steps_per_epoch|options\.E0s)\b")
"""What of a job follows from the rest of it, or changes nothing."""


def launch_peer(comparison: Comparison, member: Member, cores: Cores) -> Training:
    """Write the files that mace-torch reads and start its training.

    Raises:
        UserError: If there is no environment with mace-torch, or it cannot be given these settings.
    """
    python = check_peer(comparison)
    config = comparison.first.config.copy()
    config.seed = member.seed
    data = build_data(config)
    data.setup()
    files = member.path / "data"
    files.mkdir(parents=True, exist_ok=True)
    splits: dict[str, Sequence[AtomicData]] = {"valid": data.valid_frames, **data.test_frames}
    write_split(data.train_frames, files / "train.xyz")
    names = {split: f"split_{index}.xyz" for index, split in enumerate(splits)}
    for split, frames in splits.items():
        write_split(frames, files / names[split])
    statistics = data.statistics
    E0s = json.dumps(dict(zip(statistics.atomic_numbers, statistics.E0s, strict=True))).replace('"', "")
    job = peer_job(comparison, member)
    job |= {"python": str(python), "options": {**job["options"], "E0s": E0s}, "splits": names}
    write_json(member.path / JOB, job)
    command = [sys.executable, "-m", "mace_gaunt.comparison.peer", str(member.path.absolute())]
    return Training(command, member.log, cores)


def peer_job(comparison: Comparison, member: Member) -> dict[str, Any]:
    """What decides on a training by mace-torch, as peer.json keeps it: it follows from the command line alone.

    Raises:
        UserError: If mace-torch cannot be given these settings.
    """
    plain = complete_plain(comparison.first.config, comparison.first.request.known)
    wanted = options(plain, comparison.settings["peer_lr"])
    return {
        "options": {**wanted, SEED: member.seed},
        "stage_two": stage_two(plain, wanted["lr"]),
        "seconds": comparison.budget.seconds,
        "epochs": comparison.budget.epochs or plain["trainer"]["max_epochs"],
        "device": peer_device(plain["device"]),
        "data": plain["data"],
    }


def peer_difference(comparison: Comparison, member: Member) -> str | None:
    """What of a finished member's settings is not as it was trained, in words; None where all is.

    One that is not finished begins anew, whatever its settings were.

    Args:
        comparison: The plan.
        member: One of its peers.

    Raises:
        UserError: If mace-torch cannot be given these settings.
    """
    if state_of(member) != FINISHED:
        return None
    # As the file has it: its keys are text.
    now = dict(leaves(json.loads(json.dumps(peer_job(comparison, member)))))
    saved = read_json(member.path / JOB)
    if "data" not in saved:
        # An earlier version kept none of it.
        now = {key: value for key, value in now.items() if not key.startswith("data.")}
    before = {key: value for key, value in leaves(saved) if not NOT_SETTINGS.match(key)}
    return first_difference({**EARLIER, **before}, now)


def peer_device(device: str) -> str:
    """The device that mace-torch computes on.

    Args:
        device: That of our first member.

    Raises:
        UserError: If it cannot be used here, or mace-torch cannot be told of it.
    """
    chosen = choose_device(device)
    if ":" in chosen:
        raise UserError(
            f"peer=true: mace_run_train takes no device={chosen}. Write device=cuda, and choose the GPU by "
            "CUDA_VISIBLE_DEVICES."
        )
    return chosen


def write_split(frames: Sequence[AtomicData], path: Path) -> None:
    """Frames with the labels REF_energy and REF_forces, as far as they have them."""
    ase.io.write(path, [labelled(frame) for frame in frames], format="extxyz")


def labelled(frame: AtomicData) -> ase.Atoms:
    """A frame without the labels that are absent."""
    atoms = to_atoms(frame)
    if not frame.energy.isfinite().all():
        del atoms.info["REF_energy"]
    if not frame.forces.isfinite().all():
        del atoms.arrays["REF_forces"]
    return atoms


def check_peer(comparison: Comparison) -> Path:
    """Refuse what mace-torch cannot be given, before anything is trained.

    Returns:
        The Python of its environment.

    Raises:
        UserError: If there is no environment with mace-torch, or it cannot be given these settings.
    """
    plain = complete_plain(comparison.first.config, comparison.first.request.known)
    options(plain, comparison.settings["peer_lr"])
    peer_device(plain["device"])
    return find_peer(comparison.settings["peer_env"])


def check_start(config: Mapping[str, Any]) -> None:
    """Refuse trainings that do not begin with random weights, all of which are trained.

    Args:
        config: Plain keys, complete.

    Raises:
        UserError: If members of ours begin elsewhere: mace-torch's would not.
    """
    other = next((key for key in ("init", "freeze") if config.get(key)), None)
    if other is not None:
        raise UserError(
            f"peer=true: mace-torch is trained from random weights, all of them: leave {other}={config[other]}, or "
            "peer, out."
        )


def options(config: Mapping[str, Any], lr: float | None) -> dict[str, Any]:
    """Options of mace_run_train that say what the configuration of our first member says, but for E0s and seed.

    Args:
        config: Plain keys, complete.
        lr: Rate of its Adam; None: that of our optimizer, which must be Adam with AMSGrad then.

    Returns:
        Option -> value; `ema_decay` only where weights are averaged.

    Raises:
        UserError: If something is asked for that mace_run_train has not.
    """
    check_start(config)
    model, loss, optimizer, trainer = (config[name] for name in ("model", "loss", "optimizer", "trainer"))
    check_options(model, loss, optimizer, lr)
    averages = (config.get("callbacks") or {}).get("ema")
    return {
        "model": "ScaleShiftMACE",
        "r_max": model["r_max"],
        "num_radial_basis": model["num_bessel"],
        "num_cutoff_basis": model["num_polynomial_cutoff"],
        "radial_MLP": str(list(model["radial_MLP"])),
        "MLP_irreps": model["MLP_irreps"],
        "gate": GATES[model["gate"]],
        "num_channels": model["num_channels"],
        "max_L": model["max_L"],
        "max_ell": model["max_ell"],
        "correlation": model["correlation"],
        "num_interactions": model["num_interactions"],
        "scaling": "rms_forces_scaling",
        "batch_size": config["data"].get("batch_size") or 5,
        "valid_batch_size": config["data"].get("valid_batch_size") or config["data"].get("batch_size") or 5,
        "optimizer": "adamw" if optimizer["_target_"].endswith("AdamW") else "adam",
        "lr": optimizer["lr"] if lr is None else lr,
        "weight_decay": optimizer.get("weight_decay", 0.0),
        "energy_weight": loss["energy_weight"],
        "forces_weight": loss["forces_weight"],
        "clip_grad": trainer.get("gradient_clip_val") or 1e9,
        **({"ema_decay": averages["decay"]} if averages else {}),
        "eval_interval": trainer.get("check_val_every_n_epoch") or 1,
        "default_dtype": config["dtype"],
    }


def check_options(
    model: Mapping[str, Any], loss: Mapping[str, Any], optimizer: Mapping[str, Any], lr: float | None
) -> None:
    """Refuse what mace_run_train cannot be told.

    Args:
        model: Plain keys of the group, complete; the same for the next two.
        loss: Of the loss.
        optimizer: Of the optimizer.
        lr: Rate of its Adam, or None for ours.

    Raises:
        UserError: At the first such key.
    """
    if loss["kind"] != "mse" or loss["stress_weight"]:
        found = f"loss.kind={loss['kind']}" if loss["kind"] != "mse" else f"loss.stress_weight={loss['stress_weight']}"
        raise UserError(f"peer=true compares the loss mse of energies and forces; {found} has no equal in mace-torch.")
    if lr is None and optimizer["_target_"] not in ADAM:
        raise UserError(
            f"peer=true: mace-torch has no {optimizer['_target_']}. Give peer_lr=RATE, the learning rate of its Adam."
        )
    if lr is None and not optimizer.get("amsgrad"):
        raise UserError(
            "peer=true: mace_run_train has no Adam without AMSGrad. Set optimizer.amsgrad=true, or give peer_lr=RATE, "
            "the learning rate of its Adam."
        )
    if model["gate"] not in GATES:
        raise UserError(f"peer=true: mace-torch has no gate={model['gate']}. Choose one of {', '.join(GATES)}.")
    if not isinstance(model["correlation"], int):
        raise UserError(f"peer=true: mace_run_train takes one correlation, not {model['correlation']}.")
    other = next((key for key, value in ALWAYS.items() if model.get(key, value) != value), None)
    if other is not None:
        raise UserError(
            f"peer=true: mace_run_train is not told of model.{other}={model[other]}: leave that key, or peer, out."
        )


def stage_two(config: Mapping[str, Any], lr: float) -> dict[str, Any] | None:
    """Start and weights of the second stage; None where there is none.

    Its rate is constant in mace-torch: where ours goes on falling, the one that the schedule has reached at its middle.

    Args:
        config: Plain keys, complete.
        lr: Rate of the first stage.

    Returns:
        `start` as a fraction of the epochs, `lr`, `energy` and `forces`.
    """
    stage = config.get("stage_two")
    if not stage:
        return None
    start = stage["start"] if stage["start"] < 1 else stage["start"] / config["trainer"]["max_epochs"]
    reached = lr * FINAL_RATE ** ((1 + start) / 2)
    given = {name: stage[f"{name}_weight"] for name in ("energy", "forces")}
    kept = {name: config["loss"][f"{name}_weight"] for name, weight in given.items() if weight is None}
    return {"start": start, "lr": stage["lr"] or reached, **given, **kept}
