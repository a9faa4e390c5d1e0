"""The split of training and validation frames."""

import pytest

from mace_gaunt.data.splitting import Split
from mace_gaunt.errors import UserError

FRAMES = list(range(500))


def test_is_seeded_disjoint_and_complete():
    train, valid = Split(valid_size=50, seed=1).apply(FRAMES)
    assert (len(train), len(valid)) == (450, 50)
    assert sorted(train + valid) == FRAMES
    assert train == sorted(train) and valid == sorted(valid)
    assert Split(valid_size=50, seed=1).apply(FRAMES) == (train, valid)
    assert Split(valid_size=50, seed=2).apply(FRAMES)[1] != valid


def test_fraction_gives_at_least_one_frame():
    assert len(Split(valid_fraction=0.1).apply(FRAMES)[1]) == 50
    assert len(Split(valid_fraction=0.01).apply([1, 2, 3])[1]) == 1


def test_fewer_training_frames_are_a_subset_with_the_same_validation():
    train, valid = Split().apply(FRAMES)
    fewer, same = Split(max_train_frames=20).apply(FRAMES)
    fewest, _ = Split(max_train_frames=10).apply(FRAMES)
    assert same == valid and len(fewer) == 20
    assert set(fewest) < set(fewer) < set(train)
    assert len(Split(max_train_frames=20).limit(FRAMES)) == 20 and Split().limit(FRAMES) == FRAMES


def test_one_frame_is_used_for_both(caplog):
    assert Split().apply([7]) == ([7], [7])
    assert "one frame only" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"valid_fraction": 0.0}, "between 0 and 1"),
        ({"valid_fraction": 1.0}, "between 0 and 1"),
        ({"valid_size": 0}, "valid_size is at least 1"),
        ({"max_train_frames": 0}, "max_train_frames is at least 1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(UserError, match=message):
        Split(**settings)


def test_nothing_left_to_train_on():
    with pytest.raises(UserError, match="leave nothing of 3 frames"):
        Split(valid_size=3).apply([1, 2, 3])
