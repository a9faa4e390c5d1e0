"""mace-torch as a member: the same split files, settings and budget, by its own commands in its own environment."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase
import ase.io

from mace_gaunt.benchmark.peer.sides import find_peer
from mace_gaunt.cli.build import build_data
from mace_gaunt.cli.compare_plan import Comparison
from mace_gaunt.cli.keys import to_plain
from mace_gaunt.cli.run_folder import write_json
from mace_gaunt.comparison.local import Cores, Training
from mace_gaunt.comparison.measure import to_atoms
from mace_gaunt.comparison.members import SEED, Member
from mace_gaunt.comparison.peer import FINAL_RATE, JOB
from mace_gaunt.data.atomic_data import AtomicData
from mace_gaunt.errors import UserError
from mace_gaunt.training.groups import ADAM


def launch_peer(comparison: Comparison, member: Member, cores: Cores) -> Training:
    """Write the files that mace-torch reads and start its training.

    Raises:
        UserError: If there is no environment with mace-torch, or it cannot be given these settings.
    """
    python = check_peer(comparison)
    config = comparison.first.config.copy()
    config.seed = member.seed
    plain = to_plain(config)
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
    wanted = options(plain, comparison.settings["peer_lr"])
    job = {
        "python": str(python),
        "options": {
            **wanted,
            "E0s": json.dumps(dict(zip(statistics.atomic_numbers, statistics.E0s, strict=True))).replace('"', ""),
            SEED: member.seed,
        },
        "stage_two": stage_two(plain, wanted["lr"]),
        "splits": names,
        "seconds": comparison.budget.seconds,
        "epochs": comparison.budget.epochs or plain["trainer"]["max_epochs"],
        "steps_per_epoch": -(-len(data.train_frames) // int(plain["data"].get("batch_size") or 5)),
        "device": "cpu" if plain["device"] == "auto" else plain["device"],
    }
    write_json(member.path / JOB, job)
    command = [sys.executable, "-m", "mace_gaunt.comparison.peer", str(member.path.absolute())]
    return Training(command, member.log, cores)


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
    options(to_plain(comparison.first.config), comparison.settings["peer_lr"])
    return find_peer(comparison.settings["peer_env"])


def options(config: Mapping[str, Any], lr: float | None) -> dict[str, Any]:
    """Options of mace_run_train that say what the configuration of our first member says, but for E0s and seed.

    Args:
        config: Plain keys.
        lr: Rate of its Adam; None: that of our optimizer, which must be Adam then.

    Raises:
        UserError: If loss or optimizer are none that both programs have.
    """
    model, loss, optimizer = config["model"], config["loss"], config["optimizer"]
    if loss.get("kind", "mse") != "mse":
        raise UserError(f"peer=true compares the loss mse; loss.kind={loss['kind']} has no equal in mace-torch.")
    if lr is None and optimizer["_target_"] not in ADAM:
        raise UserError(
            f"peer=true: mace-torch has no {optimizer['_target_']}. Give peer_lr=RATE, the learning rate of its Adam."
        )
    trainer, averages = config["trainer"], (config.get("callbacks") or {}).get("ema") or {}
    return {
        "model": "ScaleShiftMACE",
        "r_max": model["r_max"],
        "num_channels": model["num_channels"],
        "max_L": model["max_L"],
        "max_ell": model["max_ell"],
        "correlation": model["correlation"],
        "num_interactions": model["num_interactions"],
        "scaling": "rms_forces_scaling",
        "batch_size": config["data"].get("batch_size") or 5,
        "valid_batch_size": config["data"].get("valid_batch_size") or config["data"].get("batch_size") or 5,
        "lr": optimizer["lr"] if lr is None else lr,
        "weight_decay": optimizer.get("weight_decay", 0.0),
        "energy_weight": loss["energy_weight"],
        "forces_weight": loss["forces_weight"],
        "clip_grad": trainer.get("gradient_clip_val") or 1e9,
        "ema_decay": averages.get("decay", 0.99),
        "eval_interval": trainer.get("check_val_every_n_epoch") or 1,
        "default_dtype": config["dtype"],
    }


def stage_two(config: Mapping[str, Any], lr: float) -> dict[str, Any] | None:
    """Start and weights of the second stage; None where there is none.

    Its rate is constant in mace-torch: where ours goes on falling, the one that the schedule has reached at its middle.

    Args:
        config: Plain keys.
        lr: Rate of the first stage.
    """
    stage = config.get("stage_two")
    if not stage:
        return None
    start = float(stage.get("start", 0.75))
    reached = lr * FINAL_RATE ** ((1 + start) / 2)
    weights = {name: stage.get(f"{name}_weight") or config["loss"][f"{name}_weight"] for name in ("energy", "forces")}
    return {"start": start, "lr": stage.get("lr") or reached, **weights}
