"""Leaderboard files, read back as the evaluation server does."""

import numpy as np
import pytest
from predicted import predicted

from mace_gaunt.errors import UserError
from mace_gaunt.evaluation.leaderboard import Submission, check_splits

SPLITS = ["id", "ood_ads", "ood_cat", "ood_both"]


def split_of(sids, fids, sizes, seed=0):
    """Predictions for frames whose atoms are fixed now and then."""
    rng = np.random.default_rng(seed)
    return predicted(
        sizes,
        sid=np.array(sids),
        fid=np.array(fids),
        energy=rng.normal(size=len(sids)),
        forces=rng.normal(size=(sum(sizes), 3)),
        fixed=rng.random(sum(sizes)) < 0.4,
    )


def filled(task):
    submission = Submission(task)
    for number, split in enumerate(SPLITS):
        submission.add_predictions(f"test_{split}", split_of([20, 3], [7, 1], [4, 3], seed=number))
        submission.add_predictions(f"test_{split}", split_of([100], [0], [5], seed=10 + number))
    return submission


def test_s2ef_has_the_forces_of_free_atoms_frame_by_frame(tmp_path):
    content = np.load(filled("s2ef").write(tmp_path / "file.npz"))
    names = ["ids", "energy", "forces", "chunk_idx"]
    assert set(content.files) == {f"{split}_{name}" for split in SPLITS for name in names}
    for number, split in enumerate(SPLITS):
        first = split_of([20, 3], [7, 1], [4, 3], seed=number)
        second = split_of([100], [0], [5], seed=10 + number)
        # As text "100_0" comes before "20_7" and "3_1".
        assert content[f"{split}_ids"].tolist() == ["100_0", "20_7", "3_1"]
        np.testing.assert_allclose(content[f"{split}_energy"], [*second.energy, *first.energy], rtol=1e-6)
        chunks = np.split(content[f"{split}_forces"], content[f"{split}_chunk_idx"])
        expected = [
            second.forces[~second.fixed],
            first.forces[:4][~first.fixed[:4]],
            first.forces[4:][~first.fixed[4:]],
        ]
        assert len(chunks) == 3
        for found, one in zip(chunks, expected, strict=True):
            np.testing.assert_array_equal(found, one.astype(np.float32))


def test_is2re_has_energies_by_system(tmp_path):
    content = np.load(filled("is2re").write(tmp_path / "file.npz"))
    assert set(content.files) == {f"{split}_{name}" for split in SPLITS for name in ("ids", "energy")}
    assert content["ood_cat_ids"].tolist() == ["100", "20", "3"]
    predictions = split_of([20, 3], [7, 1], [4, 3], seed=2)
    np.testing.assert_allclose(content["ood_cat_energy"][1:], predictions.energy, rtol=1e-6)


def test_is2rs_has_positions_of_all_atoms(tmp_path):
    submission, rng = Submission("is2rs", "total"), np.random.default_rng(0)
    positions = {sid: rng.normal(size=(size, 3)) for sid, size in ((5, 2), (11, 4))}
    for split in SPLITS:
        for sid, found in positions.items():
            submission.add_system(f"val_{split}", sid, -1.0, found)
    content = np.load(submission.write(tmp_path / "file.npz"))
    assert set(content.files) == {f"{split}_{name}" for split in SPLITS for name in ("ids", "pos", "chunk_idx")}
    chunks = np.split(content["id_pos"], content["id_chunk_idx"])
    for sid, found in zip(content["id_ids"], chunks, strict=True):
        np.testing.assert_array_equal(found, positions[int(sid)])


def test_what_cannot_be_submitted_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"adsorption energies, and this model's are of the reference total"):
        Submission("s2ef", "total")
    with pytest.raises(UserError, match=r"Did you mean 's2ef'"):
        Submission("s2f")
    submission = Submission("s2ef")
    with pytest.raises(UserError, match=r"'valid' is no split of the leaderboard: it takes test_id, test_ood_ads"):
        submission.add_predictions("valid", split_of([1], [1], [2]))
    with pytest.raises(UserError, match="no sid"):
        submission.add_predictions("test_id", split_of([-1], [1], [2]))
    with pytest.raises(UserError, match="system 4 has no fid"):
        submission.add_predictions("test_id", split_of([4], [-1], [2]))
    submission.add_predictions("test_id", split_of([4], [0], [2]))
    with pytest.raises(UserError, match="missing: test_ood_ads, test_ood_cat, test_ood_both"):
        submission.write(tmp_path / "file.npz")
    twice, infinite = filled("s2ef"), filled("s2ef")
    twice.add_predictions("test_ood_cat", split_of([3], [1], [2]))
    with pytest.raises(UserError, match="ood_cat: 3_1 is there 2 times"):
        twice.write(tmp_path / "file.npz")
    part = split_of([4], [9], [2])
    part.forces[1] = np.nan, 0, 0
    part.fixed[:] = False
    infinite.add_predictions("test_id", part)
    with pytest.raises(UserError, match="test_id: the prediction for system 4 is not finite"):
        infinite.write(tmp_path / "file.npz")
    with pytest.raises(UserError, match=r"ends in \.npz"):
        filled("s2ef").write(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_splits_are_checked_before_anything_is_predicted():
    check_splits([f"val_{split}" for split in SPLITS])
    with pytest.raises(UserError, match="missing: test_ood_both"):
        check_splits(["test_id", "test_ood_ads", "test_ood_cat"])
    with pytest.raises(UserError, match="two of id"):
        check_splits(["val_id", *(f"test_{split}" for split in SPLITS)])
    with pytest.raises(UserError, match="'mine' is no split"):
        check_splits(["mine"])
