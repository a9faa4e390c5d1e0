"""MACE-style interatomic potentials with selectable tensor products."""

from typing import Any

__version__ = "0.1.0"

__all__ = ["MaceGauntCalculator", "__version__", "load_model"]


def __getattr__(name: str) -> Any:
    """Import the two public names on first use, so that `import mace_gaunt` stays light."""
    if name == "MaceGauntCalculator":
        from mace_gaunt.simulation.calculator import MaceGauntCalculator

        return MaceGauntCalculator
    if name == "load_model":
        from mace_gaunt.model.checkpoint import load_model

        return load_model
    raise AttributeError(f"module 'mace_gaunt' has no attribute '{name}'")
