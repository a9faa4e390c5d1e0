"""The families there are, and products made by a family's name."""

from importlib import import_module
from typing import Any

from mace_gaunt.errors import UserError, nearest
from mace_gaunt.tensor_products.contracts import EdgeProduct, FeatureProduct, NodeProduct

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


def feature_product(family: str, *arguments: Any, **options: Any) -> FeatureProduct:
    """z = T(x, y) of a family.

    Args:
        family: Name of the family.
        arguments: degrees_x, degrees_y, degrees_out, kernel; see `FeatureProduct`.
        options: Options of the family, such as pseudo=True of "clebsch_gordan".

    Raises:
        UserError: If there is no such family.
        ValueError: If a degree is out of the family's reach, or there is no such kernel.
    """
    product: FeatureProduct = product_class(family, FeatureProduct)(*arguments, **options)
    return product


def edge_product(family: str, *arguments: Any, **options: Any) -> EdgeProduct:
    """Messages m_i = sum over j of h_j (x) Y(r_ij) by a family.

    Args:
        family: Name of the family.
        arguments: l_in, l_edge, l_out, kernel; see `EdgeProduct`.
        options: num_channels, pseudo_in, and options of the family.

    Raises:
        UserError: If there is no such family.
        ValueError: If a degree is out of the family's reach, or there is no such kernel.
    """
    product: EdgeProduct = product_class(family, EdgeProduct)(*arguments, **options)
    return product


def node_product(family: str, *arguments: Any, **options: Any) -> NodeProduct:
    """Products of a feature with itself, orders 1 to correlation, by a family.

    Args:
        family: Name of the family.
        arguments: l_in, l_out, correlation, num_elements, num_channels, kernel; see `NodeProduct`.
        options: pseudo_in, and options of the family.

    Raises:
        UserError: If there is no such family.
        ValueError: If a degree is out of the family's reach, or there is no such kernel.
    """
    product: NodeProduct = product_class(family, NodeProduct)(*arguments, **options)
    return product
