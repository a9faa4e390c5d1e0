"""Predictions for tests, with what a test does not care about filled in."""

import numpy as np

from mace_gaunt.evaluation.metrics import Predictions


def predicted(n_atoms, **fields) -> Predictions:
    """Frames of these sizes; without further fields all energies, forces and labels are zero and nothing is fixed."""
    n_frames, n_nodes = len(n_atoms), int(np.sum(n_atoms))
    filled = {
        "n_atoms": np.array(n_atoms, dtype=np.int64),
        "frame_index": np.arange(n_frames),
        "sid": np.full(n_frames, -1),
        "fid": np.full(n_frames, -1),
        "atomic_numbers": np.ones(n_nodes, dtype=np.int64),
        "fixed": np.zeros(n_nodes, dtype=bool),
        "energy": np.zeros(n_frames),
        "energy_label": np.zeros(n_frames),
        "forces": np.zeros((n_nodes, 3)),
        "forces_label": np.zeros((n_nodes, 3)),
    }
    return Predictions(**(filled | fields))
