"""Checkpoints that are whole: what was there stays until the new one is on the disk and has been read again."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from mace_gaunt.errors import UserError
from mace_gaunt.files import write_whole


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint aside, syncs it, reads it again without running code from it, and renames it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: Numbers, text, tensors and collections of them.
            path: The file.
            storage_options: Not used.

        Raises:
            UserError: If it cannot be written; then an earlier one at `path` is as it was.
        """
        stream = io.BytesIO()
        torch.save(checkpoint, stream)
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, stream.getvalue(), check=_check)
        except OSError as error:
            kept = "; the checkpoint before it is still there: mend this, then resume=auto" if path.is_file() else ""
            raise UserError(f"cannot write {path}: {error.strerror or error}{kept}") from error


def _check(path: Path) -> None:
    read(path)


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint; raises what torch raises where it is not whole."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content
