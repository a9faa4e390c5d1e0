"""What the verbs say about kernels."""

from collections.abc import Mapping

from torch import nn

from mace_gaunt.model.kernels import place_of
from mace_gaunt.tensor_products.selection import Choice, products_of


def tell_kernels(model: nn.Module, choices: Mapping[str, Choice]) -> None:
    """Print family and kernel of every product, and what was measured.

    Args:
        model: The model.
        choices: Of the products whose kernel was left open.
    """
    layers: dict[str, list[str]] = {}
    for name, product in products_of(model):
        words = f"family {product.family}, kernel {choices.get(name, product.kernel_name)}"
        layers.setdefault(place_of(product), []).append(words)
    for place, lines in layers.items():
        for layer, words in enumerate(lines, start=1):
            print(f"{place} product  {f'layer {layer}: ' if len(set(lines)) > 1 else ''}{words}")
            if len(set(lines)) == 1:
                break


def kernel_names(model: nn.Module) -> dict[str, str]:
    """Kernel of each product, by its name in the model."""
    return {name: product.kernel_name for name, product in products_of(model)}
