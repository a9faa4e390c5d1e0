"""The compiled path: energies and edge gradients as one traced and compiled graph, which training differentiates.

torch.compile cannot differentiate twice through a compiled function, so the first derivative (the forces) is traced
into the graph, and only one derivative (of the loss, with respect to the parameters) is left to the compiler.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from mace_gaunt.model.code_cache import keep_compiled_code
from mace_gaunt.model.gradients import EdgeGradient, edge_gradient, predict
from mace_gaunt.model.mace import MACE

INFERENCE_TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-8}
"""Largest difference over largest value."""
SMALLEST_SCALE = 0.01


class CompileError(RuntimeError):
    """The model could not be traced or compiled; the message holds the reason."""


def trace_gradient(model: MACE, training: bool = True) -> GraphModule:
    """Graph of (parameters, vectors, node_types, pair_index) -> node energies, dE/dvectors, for any batch shape.

    Args:
        model: The potential.
        training: Whether the graph will be differentiated with respect to the parameters.

    The trace records a detach for every operation whose backward uses its own output; kept, these would silently cut
    the second derivative (tanh, exp, sqrt, 1/x and more), so all are taken out. Views become reshapes: the compiler may
    lay out in another order what a view was taken of (Fourier transforms).
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
        elif node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
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

    The graph belongs to the model's dtype and device at the first call, and serves all batches but those of a single
    node or pair, or of none, which are computed eagerly (`is_compiled_for`). What the compiler makes is kept between
    runs (`keep_compiled_code`).

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
        if not is_compiled_for(node_types, pair_index):
            return edge_gradient(self.model, vectors, node_types, pair_index, training)
        if self._compiled is None:
            return self._first_call(vectors, node_types, pair_index, training)
        # One graph for training and validation: without gradients torch.compile would build a second one.
        with torch.set_grad_enabled(self.training):
            node_energy, gradient = self._compiled(list(self.model.parameters()), vectors, node_types, pair_index)
        return (node_energy, gradient) if training else (node_energy.detach(), gradient.detach())

    def _first_call(
        self, vectors: Tensor, node_types: Tensor, pair_index: Tensor, training: bool
    ) -> tuple[Tensor, Tensor]:
        keep_compiled_code()
        try:
            self._compiled = torch.compile(trace_gradient(self.model, self.training), dynamic=True)
            # Under DistributedDataParallel torch would cut the graph into buckets of parameters, each compiled alone.
            with torch._dynamo.config.patch(optimize_ddp=False):
                if len({2, 3, node_types.shape[0], pair_index.shape[1]}) < 4:
                    # Sizes that are equal at the first call would be taken for one and the same.
                    self(*example_batch(self.model), training=True)
                return self(vectors, node_types, pair_index, training)
        except Exception as error:
            self._compiled = None
            raise CompileError(reason_of(error)) from error


def is_compiled_for(node_types: Tensor, pair_index: Tensor) -> bool:
    """Whether a batch has at least two nodes and two pairs: the compiler makes graphs of its own for sizes 0 and 1."""
    return min(node_types.shape[0], pair_index.shape[1]) > 1


def reason_of(error: Exception) -> str:
    """The first line of an error of the compiler, and of what the machine's compiler said."""
    lines = str(error).splitlines()
    said = [line for line in lines[lines.index("Output:") + 1 :] if line.strip()] if "Output:" in lines else []
    return ": ".join([type(error).__name__, *lines[:1], *said[:1]])


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
    check_agreement(model, batch, gradient)
    return gradient


def check_agreement(
    model: MACE, batch: Any, gradient: EdgeGradient, quantities: Sequence[str] = ("interaction_energy", "forces")
) -> dict[str, float]:
    """Compare compiled energies and forces with the eager ones.

    Args:
        model: The potential.
        batch: See `predict`.
        gradient: The compiled gradient.
        quantities: What is compared, of what `predict` gives; virials too, if they are asked for.

    Returns:
        Largest difference of each quantity over its largest value, or over 0.01 where all are smaller (eV, Å).

    Raises:
        CompileError: If one of them is larger than `INFERENCE_TOLERANCES`.
    """
    stress = "virials" in quantities
    eager, compiled = predict(model, batch, stress=stress), predict(model, batch, stress=stress, gradient=gradient)
    differences = {}
    for name in quantities:
        # An atom alone has nothing but rounding errors.
        scale = max(SMALLEST_SCALE, float(eager[name].abs().max()))
        differences[name] = float((eager[name] - compiled[name]).abs().max()) / scale
        if not differences[name] <= INFERENCE_TOLERANCES[model.dtype]:
            raise CompileError(f"compiled and eager {name} differ by {differences[name]:.1e} of the largest")
    return differences
