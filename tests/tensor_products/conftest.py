"""What all tests of tensor products share."""

import e3nn
import pytest


@pytest.fixture(autouse=True)
def quick_to_build():
    """e3nn searches the best order of contraction for every product it builds, most of the time of its tests."""
    before = e3nn.get_optimization_defaults()["optimize_einsums"]
    e3nn.set_optimization_defaults(optimize_einsums=False)
    yield
    e3nn.set_optimization_defaults(optimize_einsums=before)
