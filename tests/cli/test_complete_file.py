"""What a run's own configuration keeps of the data when it is run again with other keys."""

import pytest
from omegaconf import OmegaConf

from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.compose import FILLED, _kept_of_file, compose
from mace_gaunt.cli.keys import MISSING
from mace_gaunt.cli.request import read_request


@pytest.mark.parametrize(
    ("word", "forgotten"),
    [
        ("r_max=2.5", True),
        ("seed=5", True),
        ("data.seed=5", True),
        ("valid_fraction=0.2", True),
        ("seed=0,1", True),
        ("model.r_max=2.5,3.0", True),
        ("lr=0.1", False),
        ("lr=0.1,0.2", False),
        ("num_channels=3", False),
        ("batch_size=1", False),
    ],
)
def test_what_the_data_fill_is_forgotten_with_what_it_depends_on(trained, word, forgotten):
    request = read_request("train", parse_arguments([str(trained / "config.yaml"), word]))
    model = _kept_of_file(request)["model"]
    assert [model[name] == MISSING for name in FILLED] == [forgotten] * len(FILLED)


def test_what_is_given_stays(trained):
    words = [str(trained / "config.yaml"), "r_max=2.5", "avg_num_neighbors=7.5"]
    model = compose(read_request("train", parse_arguments(words))).config.model
    assert (model.r_max, model.avg_num_neighbors) == (2.5, 7.5)
    assert OmegaConf.is_missing(model, "scale")
