"""Fixtures of the model tests."""

import pytest
from small_models import CHOICES, build


@pytest.fixture(params=list(CHOICES))
def model(request):
    """One small float64 model per choice of families."""
    return build(request.param)
