import inspect

import lightning
import pytest
import torch
import yaml
from omegaconf import OmegaConf

from mace_gaunt.cli.arguments import parse_arguments
from mace_gaunt.cli.choices import config_dir, list_choices, list_groups
from mace_gaunt.cli.compose import complete_text, compose
from mace_gaunt.cli.request import read_request
from mace_gaunt.errors import UserError

CHOICES = [
    (group, choice) for group in sorted(list_groups([config_dir()])) for choice in list_choices(group, [config_dir()])
]


def composed(verb, *words):
    return compose(read_request(verb, parse_arguments(list(words))))


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes(group, choice):
    assert composed("train", f"{group}={choice}").choices[group] == choice


@pytest.mark.parametrize("verb", ["train", "evaluate", "md"])
def test_every_verb_composes(verb):
    assert composed(verb).config


@pytest.mark.parametrize("data", list_choices("data", [config_dir()]))
def test_every_data_set_can_be_evaluated_on(data):
    assert composed("evaluate", f"data={data}").config.data is not None


@pytest.mark.parametrize("experiment", list_choices("experiment", [config_dir()]))
@pytest.mark.parametrize("tensor_product", list_choices("tensor_product", [config_dir()]))
def test_the_command_line_chooses_over_an_experiment(experiment, tensor_product):
    both = composed("train", f"experiment={experiment}", f"tensor_product={tensor_product}", "seed=3")
    assert both.choices["tensor_product"] == tensor_product
    assert both.config.seed == both.config.data.seed == 3


def test_the_recipe_of_3bpa_small():
    config = composed("train", "experiment=3bpa_small").config
    assert (config.model.num_channels, config.model.max_L, config.model.max_ell, config.model.r_max) == (64, 1, 3, 5.0)
    assert (config.loss.energy_weight, config.stage_two.energy_weight, config.loss.forces_weight) == (40, 4000, 1000)
    assert config.data.batch_size == 5
    assert (config.optimizer._target_, config.optimizer.lr) == ("mace_gaunt.training.soap.SOAP", 0.08)


@pytest.mark.parametrize("name", sorted(inspect.signature(lightning.Trainer).parameters))
def test_every_argument_of_the_trainer_is_a_key(name):
    assert composed("train", f"trainer.{name}=null").config.trainer[name] is None


@pytest.mark.parametrize("name", ["betas", "eps", "foreach", "maximize", "fused"])
def test_every_argument_of_the_optimizer_is_a_key(name):
    assert name in inspect.signature(torch.optim.AdamW).parameters
    assert name in composed("train", "optimizer=adamw", f"optimizer.{name}=null").config.optimizer


def test_arguments_that_no_yaml_writes_are_keys():
    config = composed("train", "data.num_workers=2", "model.zbl=true", "loss.stress_weight=1").config
    assert (config.data.num_workers, config.model.zbl, config.loss.stress_weight) == (2, True, 1)


def test_none_switches_off_what_an_experiment_has_set():
    assert composed("train", "experiment=quickstart", "stage_two=none").config.stage_two is None
    assert composed("train", "experiment=quickstart", "stage_two=null").config.stage_two is None
    with pytest.raises(UserError, match="stage_two is off"):
        composed("train", "stage_two.lr=0.1")


def test_several_loggers_are_chosen_by_a_list():
    assert set(composed("train", "logger=[wandb,tensorboard]").config.logger) == {"wandb", "tensorboard"}


def test_bare_on_and_off_are_words():
    assert composed("train", "compile=on").config.compile == "on"
    assert composed("train", "compile=false").config.compile == "off"


def test_files_alone_mix_nothing_of_the_default_data_in():
    config = composed("train", "train_file=mine.xyz").config
    assert config.data._target_.endswith("AtomsDataModule")
    assert composed("evaluate", "test_file=mine.xyz").choices["data"] == "files"
    assert composed("train", "data=3bpa", "train_file=mine.xyz").choices["data"] == "3bpa"


def test_a_printed_configuration_gives_itself(tmp_path):
    for words in (["experiment=3bpa_small"], ["logger=wandb", "cutoff=4.5"], ["scheduler=plateau", "data.test=[a,b]"]):
        first = composed("train", *words)
        text = complete_text(first.config, first.request.known)
        path = tmp_path / "printed.yaml"
        path.write_text(text)
        again = composed("train", str(path))
        assert complete_text(again.config, again.request.known) == text
        assert yaml.safe_load(text)["data"]["seed"] == "${seed}"


def test_choices_over_a_complete_file_replace_their_group(tmp_path):
    first = composed("train", "scheduler=plateau", "scheduler.patience=7")
    path = tmp_path / "config.yaml"
    path.write_text(complete_text(first.config, first.request.known))
    config = composed("train", str(path), "scheduler=cosine", "tensor_product=clebsch_gordan", "r_max=4.0").config
    assert "patience" not in config.scheduler
    assert config.model.edge_product._target_.endswith("ClebschGordanEdgeProduct")
    assert (config.model.r_max, config.model.num_channels) == (4.0, 64)
    with pytest.raises(UserError, match="says everything"):
        composed("train", str(path), "experiment=quickstart")


def test_other_data_make_a_complete_file_forget_the_statistics(tmp_path):
    first = composed("train", "model.scale=2.0")
    path = tmp_path / "config.yaml"
    path.write_text(complete_text(first.config, first.request.known))
    assert composed("train", str(path), "batch_size=3").config.model.scale == 2.0
    other = composed("train", str(path), "train_file=other.xyz").config
    assert OmegaConf.is_missing(other.model, "scale")


def test_users_add_choices_with_a_folder(tmp_path):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("_target_: mace_gaunt.training.loss.WeightedLoss\nforces_weight: 7\n")
    assert composed("train", f"--config-dir={tmp_path}", "loss=mine").config.loss.forces_weight == 7
    (tmp_path / "loss" / "mse.yaml").write_text("forces_weight: 7\n")
    with pytest.raises(UserError, match="loss=mse exists already"):
        composed("train", f"--config-dir={tmp_path}")
