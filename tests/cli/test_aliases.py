import pytest

from mace_gaunt.cli.aliases import ALIASES, Known, expand, hidden_irreps_to_keys, legal_aliases
from mace_gaunt.errors import UserError

TRAIN = Known(frozenset({"dtype", "run", "seed"}), frozenset({"model", "data", "loss", "optimizer", "trainer"}))
MD = Known(frozenset({"model", "temperature_K", "dtype"}), frozenset())


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("cutoff", "model.r_max"),
        ("r_max", "model.r_max"),
        ("model.cutoff", "model.r_max"),
        ("num_layers", "model.num_interactions"),
        ("batch_size", "data.batch_size"),
        ("forces_key", "data.forces_key"),
        ("E0s", "data.E0s"),
        ("forces_weight", "loss.forces_weight"),
        ("lr", "optimizer.lr"),
        ("max_num_epochs", "trainer.max_epochs"),
        ("default_dtype", "dtype"),
        ("model.num_bessel", "model.num_bessel"),
    ],
)
def test_names_of_other_programs_lead_to_ours(key, target):
    assert expand(key, 1, TRAIN) == {target: 1}


def test_an_alias_is_none_where_its_target_does_not_exist():
    assert expand("cutoff", 4.0, MD) == {"cutoff": 4.0}
    assert expand("temperature", 300, MD) == {"temperature_K": 300}
    assert expand("temperature", 300, TRAIN) == {"temperature": 300}
    assert "cutoff" not in legal_aliases(MD)
    assert {"cutoff", "hidden_irreps"} <= set(legal_aliases(TRAIN))


def test_no_alias_leads_to_another_alias():
    assert not {target for target in ALIASES.values() if target in ALIASES}


@pytest.mark.parametrize(
    ("irreps", "channels", "degree"),
    [("128x0e + 128x1o", 128, 1), ("32x0e", 32, 0), ("8x0e+8x1o+8x2e", 8, 2), ("0e + 1o", 1, 1)],
)
def test_hidden_irreps_are_channels_and_degree(irreps, channels, degree):
    assert hidden_irreps_to_keys(irreps) == {"num_channels": channels, "max_L": degree}
    assert expand("hidden_irreps", irreps, TRAIN) == {"model.num_channels": channels, "model.max_L": degree}


@pytest.mark.parametrize(
    ("irreps", "why"),
    [
        ("128x0e + 64x1o", "multiplicities differ"),
        ("128x0e + 128x1e", "1e are pseudo-tensors"),
        ("128x0e + 128x2e", "degrees are 0, 2"),
        ("128x1o", "degrees are 1"),
        ("0x0e", "no channels"),
        ("128", "is not of the form"),
        (128, "is not of the form"),
    ],
)
def test_irreps_that_do_not_fit_are_refused_with_the_reason(irreps, why):
    with pytest.raises(UserError, match=why):
        hidden_irreps_to_keys(irreps)
