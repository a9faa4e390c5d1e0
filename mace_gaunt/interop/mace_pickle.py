"""Pickled mace-torch models, opened in a process of their own in an environment with mace-torch.

Unpickling runs whatever code the file contains: `extract` is for those who trust it.
"""

import os
import subprocess
from pathlib import Path

from mace_gaunt.errors import UserError

WORKER = Path(__file__).with_name("mace_worker.py")
TIMEOUT = 900.0
"""Longest time for reading the model and computing with it (s)."""


def extract(path: Path, python: Path, folder: Path) -> None:
    """Write config, state dict, and structures with energies and forces of a pickled model. Runs code in the file.

    Args:
        path: The pickled model.
        python: Python of an environment with mace-torch.
        folder: Where the four files go.

    Raises:
        UserError: If the model cannot be read there.
    """
    # What points at our packages must not reach that environment.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    # -P keeps the folder of the worker off sys.path, where its neighbours would hide modules of the same names.
    command = [str(python), "-P", str(WORKER), str(path.absolute()), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"'{path}' was not read within {TIMEOUT:g} s.") from error
    except OSError as error:
        raise UserError(f"'{python}' cannot be started: {error.strerror}") from error
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"'{path}' cannot be read by mace-torch in {python.parent.parent}: {words}")
