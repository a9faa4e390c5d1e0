"""Structures, labels, neighbour lists, data sets."""

from mace_gaunt.environment import unchanged_environment

with unchanged_environment():
    # Importing torch_geometric lets torch's compiler set TORCHINDUCTOR_CACHE_DIR.
    import torch_geometric.data  # noqa: F401
