"""The bundled data are found by name."""

import pytest

from mace_gaunt.data.bundled import PACKAGE, bundled_path
from mace_gaunt.errors import UserError


def test_finds_the_bundled_set(bundled_data):
    # The tests also run beside an installed wheel, which has its own.
    in_checkout = bundled_data.is_relative_to(PACKAGE.parent)
    assert bundled_path("3bpa_xtb") == (bundled_data if in_checkout else PACKAGE / "bundled" / "3bpa_xtb")


def test_names_the_nearest_bundled_set():
    with pytest.raises(UserError, match="Did you mean '3bpa_xtb'"):
        bundled_path("3bpa_xbt")
