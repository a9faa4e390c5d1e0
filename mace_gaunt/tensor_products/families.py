"""The families there are: a name for each module of products."""

from importlib import import_module
from typing import Any

from mace_gaunt.errors import UserError, nearest

FAMILIES = {
    "gaunt": "mace_gaunt.tensor_products.gaunt",
    "clebsch_gordan": "mace_gaunt.tensor_products.clebsch_gordan",
    "gaunt_mix": "mace_gaunt.tensor_products.gaunt_mix",
    "vector_gaunt": "mace_gaunt.tensor_products.vector_gaunt",
    "matrix": "mace_gaunt.tensor_products.matrix",
}
"""Modules a model file may name: a file chooses among them, it never names code."""


def product_class(family: str, contract: type) -> Any:
    """The class of a family that fulfils a contract.

    Args:
        family: Name of the family.
        contract: FeatureProduct, EdgeProduct or NodeProduct.

    Raises:
        UserError: If there is no such family here.
    """
    if family not in FAMILIES:
        raise UserError(f"unknown tensor product family '{family}'.{nearest(family, FAMILIES)}")
    module = import_module(FAMILIES[family])
    members = [member for member in vars(module).values() if isinstance(member, type) and issubclass(member, contract)]
    return next(member for member in members if getattr(member, "family", None) == family)
