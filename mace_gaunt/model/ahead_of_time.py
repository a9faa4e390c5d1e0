"""A model compiled ahead of time: one file of machine code with the weights inside, by torch.export and AOTInductor.

The file computes (vectors of pairs, node_types, pair_index) -> (node energies, dE/dvectors), see `edge_gradient`, for
any numbers of nodes and pairs. `package` uses it.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, export
from torch.fx import GraphModule

from mace_gaunt.model.compiled import CompileError, example_batch, trace_gradient
from mace_gaunt.model.mace import MACE
from mace_gaunt.model.package import describe_package

SUFFIX = ".pt2"
OWN_OPERATORS = "mace_gaunt"
"""Namespace of the operators of kernel `fused`, which live in Python."""


class Standalone(nn.Module):
    """The traced gradient of a model with the weights inside.

    Args:
        model: The potential, in the precision, on the device and with the kernels of the package.

    Attributes:
        operators: Namespaces of the operators it calls; "aten" are torch's own.
    """

    def __init__(self, model: MACE) -> None:
        super().__init__()
        # Named `traced`: an attribute `graph` would hide that of the exported module.
        self.traced = trace_gradient(model, training=False)
        keep_constants(self.traced)
        self.weights = nn.ParameterList(parameter.detach() for parameter in model.parameters()).requires_grad_(False)
        targets = [node.target for node in self.traced.graph.nodes]
        self.operators = sorted({one.namespace for one in targets if isinstance(one, torch._ops.OpOverload)})

    def forward(self, vectors: Tensor, node_types: Tensor, pair_index: Tensor) -> Any:
        """Node energies, shape [n_nodes] (eV), and dE/dvectors, shape [n_pairs, 3] (eV/Å)."""
        return self.traced(list(self.weights), vectors, node_types, pair_index)


def keep_constants(traced: GraphModule) -> None:
    """Make buffers of the tables that a trace refers to: torch.export loses bare tensors of a nested module."""
    for name in {str(node.target) for node in traced.graph.find_nodes(op="get_attr")}:
        table = getattr(traced, name)
        delattr(traced, name)
        traced.register_buffer(name, table)


def write_package(model: MACE, path: Path, sha256: str, *, parallel: bool | None = None) -> dict[str, str]:
    """Compile a model into a package; takes about a minute, nearly all of it in the C++ compiler.

    Args:
        model: The potential, in the precision, on the device and with the kernels that the package shall have.
        path: Where, ending in .pt2; replaced when there.
        sha256: What `hash_model` gives for the model folder.
        parallel: On a CPU, whether the loops that are compiled share the threads of the process. Their sums into nodes
            are then atomic, which makes each of them slower; the matrix products and kernel `fused` have threads
            anyhow. None chooses them where `fused` does the sums.

    Returns:
        The metadata.

    Raises:
        CompileError: If the model cannot be traced or compiled; a part of the file may be there then.
    """
    try:
        module = Standalone(model)
        check_operators(module.operators)
        info = describe_package(model, module.operators, sha256)
        n_nodes, n_pairs = Dim("n_nodes"), Dim("n_pairs")
        shared = OWN_OPERATORS in module.operators if parallel is None else parallel
        threads = {"cpp.dynamic_threads": True} if shared else {"cpp.threads": 1}
        options = {"aot_inductor.metadata": dict(info), **threads}
        with torch.no_grad():
            # Shapes that divide each other, as in tiles, are beyond the solver: they are checked when the package runs.
            program = export(
                module,
                example_batch(model),
                dynamic_shapes=({0: n_pairs}, {0: n_nodes}, {1: n_pairs}),
                prefer_deferred_runtime_asserts_over_guards=True,
            )
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    except Exception as error:
        raise CompileError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error
    return info


def check_operators(operators: list[str]) -> None:
    """Refuse those that nobody has tried in a package.

    Raises:
        ValueError: Naming them.
    """
    strange = sorted(set(operators) - {"aten", "prims", OWN_OPERATORS})
    if strange:
        raise ValueError(f"its kernels call operators of {', '.join(strange)}, which no package has: take others")


def missing_compiler() -> str | None:
    """Name of the C++ compiler that AOTInductor would call, if it is not there."""
    name = os.environ.get("CXX", "g++")
    return None if shutil.which(name) else name
