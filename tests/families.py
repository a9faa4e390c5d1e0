"""Every family, kernel and operation there is, and small instances of them."""

from importlib import import_module

import torch

from mace_gaunt.tensor_products.contracts import EdgeProduct, FeatureProduct, NodeProduct
from mace_gaunt.tensor_products.families import FAMILIES, product_class
from mace_gaunt.tensor_products.kernels import native


def missing():
    """Kernel -> why the tests of all kernels leave it out."""
    reasons = {"cuequivariance": "takes minutes on a CPU; test_cueq.py has it where the library is installed"}
    try:
        native.load_library()
    except ImportError as error:
        reasons["fused"] = str(error)
    return reasons


MISSING = missing()


def members(contract):
    """(class, kernel name) of every family that fulfils a contract."""
    classes = [product_class(family, contract) for family in FAMILIES]
    return [(found, kernel) for found in classes for kernel in found.KERNELS if kernel not in MISSING]


FEATURE, EDGE, NODE = members(FeatureProduct), members(EdgeProduct), members(NodeProduct)


def with_options(cases):
    """The cases again with pseudo=True where the family has that option."""
    plain = [(found, kernel, {}) for found, kernel in cases]
    return plain + [(found, kernel, {"pseudo": True}) for found, kernel in cases if has_pseudo_option(found)]


def has_pseudo_option(found):
    return "pseudo" in import_module("inspect").signature(found).parameters


def name(value):
    """Test id of a class or an option."""
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, str):
        return value
    return "pseudo" if value == {"pseudo": True} else ""


def features(n, degrees_or_l, channels, *, parity=False, dtype=torch.float64, seed=0):
    """Normal features of some degrees."""
    degrees = range(degrees_or_l + 1) if isinstance(degrees_or_l, int) else degrees_or_l
    rows = sum(2 * degree + 1 for degree in degrees)
    generator = torch.Generator().manual_seed(seed)
    shape = (n, 2, rows, channels) if parity else (n, rows, channels)
    return torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype)
