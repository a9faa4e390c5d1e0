"""A plain yaml file as the configuration."""

import pytest

from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.compose import compose
from mace_gaunt.cli.request import read_request
from mace_gaunt.errors import UserError

TEN_LINES = """\
data: files
train_file: train.xyz
test_file: {cold: cold.xyz, hot: "hot.xyz[2:]"}
tensor_product: clebsch_gordan
cutoff: 4.5
hidden_irreps: 16x0e + 16x1o
max_epochs: 7
loss: {energy_weight: 3, forces_weight: 10}
E0s: {H: -13.6}
run: first
"""


def composed(*words):
    return compose(read_request("train", parse_arguments([str(word) for word in words])))


def write(folder, text, name="my.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def test_ten_lines_are_enough(tmp_path):
    both = composed(write(tmp_path, TEN_LINES))
    config = both.config
    assert (both.choices["data"], both.choices["tensor_product"]) == ("files", "clebsch_gordan")
    assert (config.model.r_max, config.model.num_channels, config.model.max_L) == (4.5, 16, 1)
    assert (config.trainer.max_epochs, config.loss.energy_weight, config.run) == (7, 3, "first")
    assert config.data.test_file == {"cold": "cold.xyz", "hot": "hot.xyz[2:]"}
    assert config.data.E0s == {"H": -13.6}


def test_the_command_line_goes_over_the_file_and_the_file_over_the_experiment(tmp_path):
    path = write(tmp_path, "experiment: quickstart\nmodel: {num_channels: 5}\nloss: huber\nseed: 4\n")
    config = composed(path, "seed=9").config
    assert (config.model.num_channels, config.seed, config.loss.kind) == (5, 9, "huber")
    assert composed(path, "experiment=3bpa_small").choices["data"] == "3bpa"


def test_dotted_keys_null_groups_and_own_targets(tmp_path):
    path = write(
        tmp_path,
        "data.batch_size: 3\nscheduler: null\ncallbacks.early_stopping: null\n"
        "optimizer: {_target_: torch.optim.SGD, _partial_: true, lr: 0.1, momentum: 0.9}\n",
    )
    config = composed(path).config
    assert (config.data.batch_size, config.scheduler, config.callbacks.early_stopping) == (3, None, None)
    assert dict(config.optimizer) == {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "momentum": 0.9}


def test_a_defaults_list_is_understood(tmp_path):
    path = write(tmp_path, "defaults:\n  - tensor_product: clebsch_gordan\n  - override /loss: huber\nseed: 2\n")
    both = composed(path)
    assert (both.choices["tensor_product"], both.choices["loss"], both.config.seed) == ("clebsch_gordan", "huber", 2)


def test_paths_are_found_from_here_and_beside_the_file(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.xyz").touch()
    path = write(folder, "train_file: train.xyz[:5]\nvalid_file: absent.xyz\n")
    monkeypatch.chdir(tmp_path)
    data = composed(path).config.data
    assert (data.train_file, data.valid_file) == (f"{folder / 'train.xyz'}[:5]", "absent.xyz")
    (tmp_path / "train.xyz").touch()
    assert composed(path).config.data.train_file == "train.xyz[:5]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_chanels: 3", r"no key 'num_chanels' in .*my.yaml. Did you mean 'num_channels'"),
        ("model: {num_chanels: 3}", r"no key 'model.num_chanels' in .*my.yaml. Did you mean 'model.num_channels'"),
        ("data: fils", r"my.yaml: no data 'fils'. Did you mean 'files'"),
        ("data: [", "not valid yaml"),
        ("just words", "no key 'just words'"),
        ("- a\n- b", "holds no keys"),
        ("seed: ${sed}", "a reference in the configuration leads nowhere"),
        ("defaults: [train]", "'defaults' lists choices"),
    ],
)
def test_mistakes_in_a_file_are_told_with_its_name(text, message, tmp_path):
    with pytest.raises(UserError, match=message):
        composed(write(tmp_path, text))
