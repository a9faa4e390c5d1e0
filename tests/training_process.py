"""One process of a training on several, started as torchrun starts it.

python training_process.py FOLDER BATCH_SIZE [stop_after_steps]; with the last one it is stopped, and the next start
continues from its checkpoint.
"""

import functools
import os
import sys
from pathlib import Path

import lightning
import torch
from small_models import ELEMENTS, build

from mace_gaunt.data.datamodule import AtomsDataModule
from mace_gaunt.training.callbacks import EMA, LastCheckpoint
from mace_gaunt.training.checkpoint_io import WholeCheckpoints
from mace_gaunt.training.loss import WeightedLoss
from mace_gaunt.training.module import PotentialModule
from mace_gaunt.training.stopping import StopTraining, TrainingStopped


def main(folder: Path, batch_size: int, stop_after_steps: int | None = None) -> None:
    """Train three epochs and write weights and metrics of this process."""
    torch.set_num_threads(1)
    root = folder / f"of_{os.environ['WORLD_SIZE']}"
    statistics = {"atomic_numbers": ELEMENTS, "E0s": [-13.6, -1029.5, -2041.9]}
    data = AtomsDataModule(
        4.0,
        folder / "train.xyz",
        folder / "valid.xyz",
        batch_size=batch_size,
        valid_batch_size=2,
        statistics=statistics | {"avg_num_neighbors": 5.0, "scale": 0.9, "shift": -4.8},
        require_forces=False,
    )
    optimizer = functools.partial(torch.optim.Adam, lr=0.01)
    module = PotentialModule(build("gaunt"), WeightedLoss(1.0, 10.0), optimizer)
    trainer = lightning.Trainer(
        default_root_dir=root,
        max_epochs=3,
        accelerator="cpu",
        devices=int(os.environ["WORLD_SIZE"]),
        strategy="ddp",
        use_distributed_sampler=False,
        gradient_clip_val=10.0,
        inference_mode=False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
        callbacks=[EMA(0.9), LastCheckpoint(), StopTraining(steps=stop_after_steps)],
        plugins=[WholeCheckpoints()],
    )
    checkpoint = root / "checkpoints" / "last.ckpt"
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint if checkpoint.is_file() else None, weights_only=True)
    except TrainingStopped as stop:
        print(stop)
        return
    result = {
        "weights": module.model.state_dict(),
        "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
        "steps": trainer.global_step,
    }
    torch.save(result, folder / f"of_{trainer.world_size}_rank_{trainer.global_rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
