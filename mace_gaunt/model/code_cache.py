"""Where the compiler keeps what it made, so that a second start of the same model takes seconds."""

import hashlib
import logging
import os
from pathlib import Path

from mace_gaunt.cache import writable_folder
from mace_gaunt.tensor_products.kernels.native import processor

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
log = logging.getLogger(__name__)


def keep_compiled_code() -> Path | None:
    """Let torch keep compiled code in $XDG_CACHE_HOME/mace_gaunt/inductor instead of the folder of temporary files.

    To be called where compiling begins. torch takes the folder from the environment alone and writes its own choice
    there too; it reads it again for the backward graph and in the processes that compile for it, so it is set for good.
    A folder that the user has set stays. Every kind of processor has a folder of its own: code is made for the
    processor's instructions, torch's keys do not hold them, and a home may be shared by machines that differ.

    Returns:
        The folder that was set; None where the user has set one, or where nothing can be written.
    """
    if os.environ.get(VARIABLE):
        return None
    folder = writable_folder("inductor", hashlib.sha256(processor().encode()).hexdigest()[:16])
    if folder is None:
        log.warning(
            "compiled code cannot be kept, since nothing can be written in $XDG_CACHE_HOME/mace_gaunt (by default "
            "~/.cache/mace_gaunt): it goes to the folder of temporary files. Set XDG_CACHE_HOME, or %s",
            VARIABLE,
        )
        return None
    os.environ[VARIABLE] = str(folder)
    return folder
