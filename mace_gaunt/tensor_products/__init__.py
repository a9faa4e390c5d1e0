"""Equivariant tensor products: families of functions, kernels that compute them, usable on their own.

`feature_product`, `edge_product` and `node_product` make a product by its family's name; `select_kernel` gives it its
fastest kernel. `FAMILIES` lists the families.
"""

from importlib import import_module
from typing import Any

__all__ = ["FAMILIES", "edge_product", "feature_product", "node_product", "select_kernel"]


def __getattr__(name: str) -> Any:
    """Import the public names on first use: a command's help needs no torch."""
    if name in __all__:
        module = "selection" if name == "select_kernel" else "families"
        return getattr(import_module(f"mace_gaunt.tensor_products.{module}"), name)
    raise AttributeError(f"module 'mace_gaunt.tensor_products' has no attribute '{name}'")
