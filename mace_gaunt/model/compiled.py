"""The compiled path: energies and edge gradients as one traced and compiled graph, which training differentiates.

torch.compile cannot differentiate twice through a compiled function, so the first derivative (the forces) is traced
into the graph, and only one derivative (of the loss, with respect to the parameters) is left to the compiler.
"""

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from mace_gaunt.model.gradients import edge_gradient, predict
from mace_gaunt.model.mace import MACE

INFERENCE_TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-8}
"""Largest difference over largest value."""


class CompileError(RuntimeError):
    """The model could not be traced or compiled; the message holds the reason."""


def trace_gradient(model: MACE, training: bool = True) -> GraphModule:
    """Graph of (parameters, vectors, node_types, pair_index) -> node energies, dE/dvectors, for any batch shape.

    Args:
        model: The potential.
        training: Whether the graph will be differentiated with respect to the parameters.

    The trace records a detach for every operation whose backward uses its own output; kept, these would silently cut
    the second derivative (tanh, exp, sqrt, 1/x and more), so all are taken out.
    """
    names = [name for name, _ in model.named_parameters()]

    def gradient(
        parameters: list[Tensor], vectors: Tensor, node_types: Tensor, pair_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = vectors.detach().requires_grad_(True)
            state = dict(zip(names, parameters, strict=True))
            node_energy = functional_call(model, state, (leaf, node_types, pair_index), {"mirrored": True})
            (result,) = torch.autograd.grad(node_energy.sum(), leaf, create_graph=training)
        return node_energy, result

    traced: GraphModule = make_fx(gradient, tracing_mode="symbolic", _allow_non_fake_inputs=True)(
        list(model.parameters()), *example_batch(model)
    )
    for node in list(traced.graph.nodes):
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    traced.graph.lint()
    traced.recompile()
    return traced


def example_batch(model: MACE) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors, node types and pairs of a made-up batch.

    Sizes of one or equal sizes would be frozen by the trace: those of atoms, pairs and edges (two for a pair) differ,
    also with one more node for every element.
    """
    generator = torch.Generator().manual_seed(0)
    n_nodes, n_pairs = 101, 307
    vectors = torch.randn(n_pairs, 3, generator=generator) + 0.1
    node_types = torch.randint(len(model.atomic_numbers), (n_nodes,), generator=generator)
    pair_index = torch.randint(n_nodes, (2, n_pairs), generator=generator)
    return vectors.to(model.device, model.dtype), node_types.to(model.device), pair_index.to(model.device)


class CompiledGradient:
    """Compiled counterpart of `edge_gradient`, an EdgeGradient; follows the parameters of the model as they change.

    The graph belongs to the model's dtype and device at the first call. Batches of a single node or pair, or of none,
    are computed eagerly: the compiler would make a graph of its own for each of them.

    Args:
        model: The potential.
        training: Whether results will be differentiated with respect to the parameters; without, compiling takes half
            the time and a call less.

    Raises:
        CompileError: On the first call, if the model cannot be traced or compiled.
    """

    def __init__(self, model: MACE, training: bool = True) -> None:
        self.model, self.training = model, training
        self._compiled: Any = None

    def __call__(
        self, vectors: Tensor, node_types: Tensor, pair_index: Tensor, training: bool
    ) -> tuple[Tensor, Tensor]:
        """Node energies and dE/dvectors; shapes as in `edge_gradient`."""
        if min(node_types.shape[0], pair_index.shape[1]) < 2:
            return edge_gradient(self.model, vectors, node_types, pair_index, training)
        if self._compiled is None:
            return self._first_call(vectors, node_types, pair_index, training)
        # One graph for training and validation: without gradients torch.compile would build a second one.
        with torch.set_grad_enabled(self.training):
            node_energy, gradient = self._compiled(list(self.model.parameters()), vectors, node_types, pair_index)
        return (node_energy, gradient) if training else (node_energy.detach(), gradient.detach())

    def _first_call(self, *arguments: Any) -> tuple[Tensor, Tensor]:
        try:
            self._compiled = torch.compile(trace_gradient(self.model, self.training), dynamic=True)
            return self(*arguments)
        except Exception as error:
            self._compiled = None
            raise CompileError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error


def compile_inference(model: MACE, batch: Any) -> CompiledGradient:
    """Compiled energies and forces, compared with the eager ones on a batch.

    Args:
        model: The potential, on its device and in its precision.
        batch: See `predict`; at least two nodes and pairs.

    Returns:
        What `predict` takes as `gradient`.

    Raises:
        CompileError: If compiling fails, or compiled and eager differ.
    """
    gradient = CompiledGradient(model, training=False)
    eager, compiled = predict(model, batch), predict(model, batch, gradient=gradient)
    for name in ("interaction_energy", "forces"):
        scale = float(eager[name].abs().max()) or 1.0
        difference = float((eager[name] - compiled[name]).abs().max()) / scale
        if not difference <= INFERENCE_TOLERANCES[model.dtype]:
            raise CompileError(f"compiled and eager {name} differ by {difference:.1e} of the largest")
    return gradient
