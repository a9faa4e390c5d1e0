"""The bundled data are found by name."""

import pytest

from mace_gaunt.data.bundled import bundled_path
from mace_gaunt.errors import UserError


def test_finds_the_bundled_set(bundled_data):
    assert bundled_path("3bpa_xtb") == bundled_data


def test_names_the_nearest_bundled_set():
    with pytest.raises(UserError, match="Did you mean '3bpa_xtb'"):
        bundled_path("3bpa_xbt")
