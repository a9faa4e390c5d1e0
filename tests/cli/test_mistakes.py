"""Every verb with what people get wrong: a line that says what is right, status 2, nothing written."""

import pytest

from mace_gaunt.cli.main import is_mistake
from mace_gaunt.errors import UserError

MISTAKES = [
    ("trian", "Did you mean 'train'"),
    ("my.yaml", "the verb comes first, as in: mace-gaunt train my.yaml"),
    ("--verison", "Did you mean '--version'"),
    ("train model.num_chanels=3", "no key 'model.num_chanels'. Did you mean 'model.num_channels'"),
    ("train num_chanels=3", "Did you mean 'num_channels'"),
    ("train trainer.max_epoch=3", "Did you mean 'trainer.max_epochs'"),
    ("train optimizer.beta=3", "Did you mean 'optimizer.betas'"),
    ("train callbacks.emo.decay=0.9", "Did you mean 'callbacks.ema'"),
    ("train callbacks.ema.decai=0.9", "Did you mean 'callbacks.ema.decay'"),
    ("train model.edge_product.kernl=grid", "Did you mean 'model.edge_product.kernel'"),
    ("train model.batch_size=3", "Did you mean 'data.batch_size'"),
    ("train momentum.x=3", "no key 'momentum'"),
    ("train scheduler.total_steps=3", "filled by the program"),
    ("train stage_two.lr=1", "stage_two is off"),
    ("train tensor_product=gount", "Did you mean 'gaunt'"),
    ("train experiment=3bpa_smal", "Did you mean '3bpa_small'"),
    ("train logger=[wandb,tensorbord]", "Did you mean 'tensorboard'"),
    ("train ~callbacks.emma", "Did you mean 'callbacks.ema'"),
    ("train tensor_product=gaunt,clebsch_gordan", "add --multirun"),
    ("train --multirun tensor_product=gaunt,gount", "Did you mean 'gaunt'"),
    ("train --multirun model.max_l=0,1", "Did you mean 'model.max_L'"),
    ("train --multirun seed=1", "needs a key with several values"),
    ("train --multirun hidden_irreps=8x0e,16x0e", "sweep model.num_channels and model.max_L"),
    ("train lr=abc", "optimizer.lr='abc' is not possible: expected a number"),
    ("train seed=abc", "expected an integer"),
    ("train overwrite=maybe", "expected true or false"),
    ("train trainer.precision=33-true", "Did you mean '32-true'"),
    ("train dtype=float16", "dtype is float32 or float64"),
    ("train compile=maybe", "compile='maybe'"),
    ("train device=gpux", "device='gpux'"),
    ("train lr=-1", "Invalid learning rate"),
    ("train model.gate=relu", "unknown gate"),
    ("train optimizer=null", "choose optimizer=adam"),
    ("train resume=auto", "needs run=NAME"),
    ("train resume=maybe run=a", "resume=maybe is not possible"),
    ("train run=absent resume=must", "there is no runs/absent/checkpoints/last.ckpt"),
    ("train train_file=absent.xyz", "absent.xyz"),
    ("train data=3bpa data.root=absent", "no split 'train_300K' in absent"),
    ("train data.train=train_300", "Did you mean 'train_300K'"),
    ("evaluate modl=x", "Did you mean 'model'"),
    ("evaluate model=x data=3bp", "Did you mean '3bpa'"),
    ("evaluate model=x test_fil=y", "Did you mean 'test_file'"),
    ("evaluate data=3bpa_xtb", "model is missing"),
    ("evaluate model=x", "nothing to evaluate on"),
    ("evaluate model=absent data=3bpa_xtb", "absent"),
    ("evaluate --multirun model=a,b", "no --multirun"),
    ("md modl=x", "Did you mean 'model'"),
    ("md step=3", "Did you mean 'steps'"),
    ("md steps=2.5", "expected an integer"),
    ("md structure=x out=y", "model is missing"),
    ("md model=x structure=absent.xyz out=y", "absent.xyz"),
    ("data", "Known: download, inspect"),
    ("data inspct", "Did you mean 'inspect'"),
    ("data inspect pth=x", "Did you mean 'path'"),
    ("data inspect", "Give path=FILE"),
    ("data inspect path=absent.xyz", "absent.xyz"),
    ("data inspect data=3bpa root=absent", "no splits in absent"),
    ("data download data=3bp", "Did you mean '3bpa'"),
    ("data download", "Give data=3bpa"),
    ("data --multirun", "'data' has no --multirun"),
]
"""Words of a command line, and a part of what must be said to them."""


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_name_what_is_right(words, message, refused):
    assert message in refused(*words.split())


def test_a_file_without_forces_stops_before_training(energies_only, refused):
    assert "no 'forces'" in refused("train", f"train_file={energies_only}", "run=a")


def test_an_unknown_element_is_named(trained, chlorine_file, refused):
    for words in (
        ["evaluate", f"model={trained}", f"test_file={chlorine_file}", "out=b"],
        ["md", f"model={trained}", f"structure={chlorine_file}", "out=b"],
    ):
        assert "Cl" in refused(*words)


def test_what_exists_is_not_lost(trained, data_file, refused):
    assert "is not empty" in refused("train", f"train_file={data_file}", f"run={trained}")
    assert "overwrite=true" in refused(
        "evaluate", f"model={trained}", f"test_file={data_file}", f"out={trained / 'report'}"
    )


def test_faults_of_the_program_are_no_mistakes_of_the_user():
    assert is_mistake(RuntimeError("x")) is None
    assert is_mistake(ValueError("raised elsewhere")) is None
    assert is_mistake(UserError("y")) == "y"
    try:
        raise RuntimeError("wrapped") from UserError("inner")
    except RuntimeError as error:
        assert is_mistake(error) == "inner"
