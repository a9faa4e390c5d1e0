"""The kernels of a model's products: by name, or measured."""

from collections.abc import Mapping

from torch import nn

from mace_gaunt.errors import UserError, nearest
from mace_gaunt.tensor_products.contracts import EdgeProduct, FeatureProduct, NodeProduct, Product
from mace_gaunt.tensor_products.families import FAMILIES, product_class
from mace_gaunt.tensor_products.selection import Choice, candidates, example_inputs, products_of, select_kernel

KernelChoice = str | Mapping[str, str | None] | None
"""A name for every product that has it, {"edge": X, "node": Y, "selfmix": Z}, or "auto" or None to measure."""
CONTRACTS = {"edge": EdgeProduct, "node": NodeProduct, "selfmix": FeatureProduct}
"""Where a product stands, and which contract it fulfils there."""
PLACES = ("edge", "node")
"""The places that every model has."""


def place_of(product: Product) -> str:
    """Where a product stands: "edge", "node" or "selfmix"."""
    return next(place for place, contract in CONTRACTS.items() if isinstance(product, contract))


def use_kernels(model: nn.Module, kernel: KernelChoice) -> None:
    """Make a model's products use a kernel; what the model computes does not change.

    Args:
        model: The model, changed in place.
        kernel: A name goes to every product whose family has it; a mapping names them one by one.

    Raises:
        UserError: If no product has it, or a place is named that the model does not have.
    """
    wanted = as_mapping(kernel)
    products = [product for _, product in products_of(model)]
    for place in CONTRACTS:
        members = [product for product in products if place_of(product) == place]
        name = wanted.get(place, "auto")
        if isinstance(kernel, Mapping) and name != "auto" and not members:
            raise UserError(f"kernel: the model has no {place} product that could use '{name}': leave '{place}' out.")
        if not isinstance(kernel, Mapping) and not any(name in product.KERNELS for product in members):
            continue
        for product in members:
            if name != "auto":
                use_one(product, name)
    if isinstance(kernel, str) and kernel != "auto" and not any(kernel in product.KERNELS for product in products):
        raise UserError(refusal(kernel, products))


def use_one(product: Product, name: str) -> None:
    """One product's kernel; a missing library or an impossible choice is the user's to mend."""
    try:
        product.use_kernel(name)
    except (ImportError, ValueError) as error:
        raise UserError(f"kernel of the {place_of(product)} product: {error}") from error


def as_mapping(kernel: KernelChoice) -> dict[str, str]:
    """Kernel of each place.

    Raises:
        UserError: If the mapping names another place.
    """
    if kernel is None or isinstance(kernel, str):
        return dict.fromkeys(CONTRACTS, kernel or "auto")
    for place in kernel:
        if place not in CONTRACTS:
            raise UserError(f"kernel={dict(kernel)}: a product is 'edge', 'node' or 'selfmix', not '{place}'.")
    return {str(place): "auto" if name is None else str(name) for place, name in kernel.items()}


def refusal(kernel: str, products: list[Product]) -> str:
    """Why no product of a model can use a kernel."""
    families = sorted({product.family for product in products})
    known = sorted({name for product in products for name in product.KERNELS})
    contracts = CONTRACTS.values()
    owners = [name for name in FAMILIES if any(kernel in product_class(name, one).KERNELS for one in contracts)]
    if owners:
        return (
            f"kernel '{kernel}' computes family {' or '.join(owners)}; this model is of family {', '.join(families)}, "
            f"another function with other weights. It has the kernels {', '.join(known)}"
        )
    return f"no product of this model (family {', '.join(families)}) has a kernel '{kernel}'.{nearest(kernel, known)}"


def select_kernels(model: nn.Module, n_nodes: int, n_edges: int, *, training: bool) -> dict[str, Choice]:
    """Measure the kernels of every product that leaves the choice open, and use the fastest.

    Args:
        model: The model, on its device and in its precision; changed in place.
        n_nodes: Nodes of a usual batch.
        n_edges: Edges of a usual batch.
        training: Whether forces will be trained on.

    Returns:
        The choice for each such product, by its name in the model.
    """
    choices = {}
    for name, product in products_of(model):
        if product.asked_for == "auto":
            inputs = example_inputs(product, n_nodes, n_edges)
            choices[name] = select_kernel(product, inputs, training=training)
    return choices


def use_kernels_for_compiling(model: nn.Module, device: str) -> None:
    """The kernels that a compiled model runs best with, where the choice is open.

    On a CPU the fused loops, if they can be built: they are operators of their own, so the compiler leaves them as they
    are. Elsewhere each family's first kernel, whose form under tracing is written to be fused by the compiler.

    Args:
        model: The model, changed in place.
        device: Type of the device it will be compiled for.
    """
    for _, product in products_of(model):
        if product.asked_for == "auto" and device == "cpu" and "fused" in candidates(product):
            product.use_kernel("fused")
            product.asked_for = "auto"


def restore_kernels(model: nn.Module, names: Mapping[str, str], device: str) -> None:
    """Use the kernels of an earlier run again; those made for another kind of device stay open.

    Args:
        model: The model, changed in place.
        names: Kernel of each product, by its name in the model.
        device: Type of the device it will run on.
    """
    for name, product in products_of(model):
        known = names.get(name, product.kernel_name)
        devices = getattr(product.KERNELS.get(known), "devices", (device,))
        if known != product.kernel_name and device in devices:
            use_one(product, known)
