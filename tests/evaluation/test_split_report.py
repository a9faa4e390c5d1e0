"""What is kept of a split: the same as of one batch, in memory that does not grow."""

import tracemalloc

import numpy as np
import pytest
from predicted import predicted

from mace_gaunt.evaluation.leaderboard import Submission
from mace_gaunt.evaluation.metrics import LAYOUT
from mace_gaunt.evaluation.parity_points import ParityPoints
from mace_gaunt.evaluation.split_report import SplitReport
from mace_gaunt.evaluation.streams import Spool


def parts(count, seed=0):
    """Batches of 20 frames of 5 atoms."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        yield predicted(
            [5] * 20,
            sid=np.arange(20 * index, 20 * index + 20),
            fid=np.zeros(20, dtype=np.int64),
            energy=rng.normal(size=20),
            energy_label=rng.normal(size=20),
            forces=rng.normal(size=(100, 3)),
            forces_label=rng.normal(size=(100, 3)),
            fixed=rng.random(100) < 0.3,
        )


def test_what_is_written(tmp_path):
    report, given = SplitReport("val_id", tmp_path), list(parts(3))
    for part in given:
        report.add(part)
    (tmp_path / "predictions").mkdir()
    report.write(tmp_path)
    content = np.load(tmp_path / "predictions" / "val_id.npz", allow_pickle=False)
    assert set(content.files) == set(LAYOUT)
    for name, (kind, row) in LAYOUT.items():
        joined = np.concatenate([getattr(part, name) for part in given])
        assert content[name].dtype == kind and content[name].shape[1:] == row and np.array_equal(content[name], joined)
    errors = np.concatenate([part.forces - part.forces_label for part in given])
    assert report.row()["forces_rmse_meV_A"] == pytest.approx(1000 * np.sqrt(np.mean(errors**2)), rel=1e-12)
    assert report.oc20.compute()["forces_mae_eV_A"].item() == pytest.approx(np.mean(np.abs(errors)), rel=1e-12)


def test_memory_does_not_grow_with_the_split(tmp_path, monkeypatch):
    monkeypatch.setattr(Spool, "BUFFER", 20_000)
    monkeypatch.setattr(ParityPoints, "SIZE", 500)

    def kept(count):
        """Bytes that are held when so many batches have passed."""
        tracemalloc.start()
        report, submission = SplitReport("val_id", tmp_path), Submission("s2ef", folder=tmp_path)
        for part in parts(count):
            report.add(part)
            submission.add_predictions("val_id", part)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert report.errors.n_frames == len(submission.splits["id"].sids) == 20 * count
        return held

    kept(5)  # what is imported and cached at the first use
    few, many = kept(40), kept(400)
    # Of 7,200 further frames 2.6 MB of predictions passed; the submission keeps 32 bytes of each, in growing arrays.
    assert many - few < 500_000
