"""What each benchmark can be asked, with its defaults and presets. Imports nothing heavy: the help reads it."""

from dataclasses import dataclass, fields, replace
from typing import Any

from mace_gaunt.benchmark.keys import (
    Key,
    choice,
    choices,
    flag,
    integer,
    integers,
    positive,
    word,
    words,
)
from mace_gaunt.errors import UserError

OPERATIONS = ("feature", "edge", "node")
REGIMES = ("siso", "simo", "mimo")
FORWARD, FORWARD_BACKWARD, DOUBLE_BACKWARD = PASSES = ("forward", "forward_backward", "double_backward")

TENSOR_PRODUCT_KEYS = {
    "out": Key(word, "folder for results.csv, benchmark.json and plots (needed)"),
    "overwrite": Key(flag, "whether out may exist (false)"),
    "preset": Key(choice("small", "full", "bars"), "small (minutes) | full | bars; other keys change it (small)"),
    "operations": Key(choices(*OPERATIONS), "feature,edge,node"),
    "regimes": Key(choices(*REGIMES), "of the feature product: siso,simo,mimo"),
    "degrees": Key(integers(0), "largest degrees L, such as 1,2,3 or 1..6"),
    "mimo_out": Key(choice("2L", "L"), "degrees that mimo gives: 0..2L or 0..L (2L)"),
    "max_ell": Key(integer(0), "degree of harmonics and messages of the edge product, at least L (3)"),
    "max_L": Key(integer(0), "largest degree that the node product gives, at most L (2)"),
    "correlation": Key(integer(1), "order of the node product (3)"),
    "rows": Key(integers(1), "batches of the feature product"),
    "edges": Key(integers(1), "batches of the edge product, 16.6 edges per node"),
    "nodes": Key(integers(1), "batches of the node product"),
    "channels": Key(integers(1), "channels"),
    "families": Key(words, "families, or all (all)"),
    "kernels": Key(words, "kernels, or all (all)"),
    "pseudo": Key(flag, "couplings with an odd l1 + l2 + l3 too, where a family has the option (false)"),
    "references": Key(flag, "whether e3nn and the bare FFT convolution run beside (true)"),
    "passes": Key(choices(*PASSES), "forward,forward_backward,double_backward"),
    "device": Key(choice("cpu", "cuda"), "cpu | cuda (cpu)"),
    "dtype": Key(choice("float32", "float64"), "float32 | float64 (float32)"),
    "threads": Key(integer(1), "processor threads (as torch finds them)"),
    "seconds": Key(positive, "measuring time per candidate and pass (0.1 with preset=small, else 0.25)"),
    "longest": Key(positive, "where a call takes longer (s), larger degrees of the candidate are left out (0.5)"),
    "seed": Key(integer(0), "of the random inputs (0)"),
}

EXPRESSIVITY_KEYS = {
    "out": Key(word, "folder for the tables as csv and json (needed)"),
    "overwrite": Key(flag, "whether out may exist (false)"),
    "degrees_x": Key(integers(0), "degrees of the first feature (0..2)"),
    "degrees_y": Key(integers(0), "degrees of the second (0..2)"),
    "degrees_out": Key(integers(0), "degrees of the result, natural and pseudo (0..2)"),
    "multiplicity": Key(integer(1), "copies of each degree in x, y and the result (1)"),
    "channels": Key(integer(1), "channels of the product between the Linears (as multiplicity)"),
    "families": Key(words, "families, or all (all)"),
    "rows": Key(integer(1), "batch for the measured cost (1000)"),
    "threads": Key(integer(1), "processor threads (as torch finds them)"),
    "seconds": Key(positive, "measuring time per kernel (0.1)"),
    "seed": Key(integer(0), "of the random weights and inputs (0)"),
}


@dataclass(frozen=True)
class Plan:
    """Cells of one operation: every combination of the entries.

    Attributes:
        operation: "feature", "edge" or "node".
        degrees: L of each cell.
        batches: Rows, edges or nodes.
        channels: Channels.
        regimes: Of the feature product.
        families: Families to time; all when empty.
        passes: Passes to time.
    """

    operation: str
    degrees: tuple[int, ...]
    batches: tuple[int, ...]
    channels: tuple[int, ...]
    regimes: tuple[str, ...] = REGIMES
    families: tuple[str, ...] = ()
    passes: tuple[str, ...] = PASSES


BATCH_KEYS = {"feature": "rows", "edge": "edges", "node": "nodes"}
SMALL_SECONDS, LONG_SECONDS = 0.1, 0.25

PRESETS: dict[str, tuple[Plan, ...]] = {
    "small": (
        Plan("feature", (1, 2, 3, 4), (1000,), (1,)),
        Plan("edge", (0, 1, 2), (2242,), (16,)),
        Plan("node", (1, 2, 3), (135,), (16,)),
    ),
    # Rows as in Xie et al. (ICML 2025); edges and nodes of a batch of five 3BPA molecules with r_max = 5 Å.
    "full": (
        Plan("feature", (1, 2, 3, 4, 6), (10000,), (1,), regimes=("siso", "simo")),
        Plan("feature", (1, 2, 3, 4, 5, 6, 8, 10), (10000,), (1,), regimes=("mimo",)),
        Plan("feature", (1, 2), (1000,), (16,), regimes=("mimo",)),
        Plan("edge", (0, 1, 2, 3), (2242,), (64,)),
        Plan("node", (1, 2, 3), (135,), (64,)),
    ),
    # The bars that the project has set itself: against e3nn, against the bare FFT convolution, growth with L.
    "bars": (
        Plan("feature", (3,), (10000,), (1,), regimes=("mimo",)),
        Plan("edge", (2,), (2242,), (64,), passes=("double_backward",)),
        Plan(
            "feature",
            (2, 4, 5, 6, 7, 8, 9, 10),
            (10000,),
            (1,),
            regimes=("mimo",),
            families=("gaunt",),
            passes=("forward",),
        ),
    ),
}


@dataclass(frozen=True)
class ProductSettings:
    """A checked request for `benchmark tensor_product`; attributes are its keys, `plans` the preset with their changes.

    Attributes:
        plans: What is timed.
    """

    plans: tuple[Plan, ...]
    out: str
    overwrite: bool = False
    preset: str = "small"
    mimo_out: str = "2L"
    max_ell: int = 3
    max_L: int = 2
    correlation: int = 3
    kernels: tuple[str, ...] = ()
    pseudo: bool = False
    references: bool = True
    device: str = "cpu"
    dtype: str = "float32"
    threads: int | None = None
    seconds: float = SMALL_SECONDS
    longest: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class ExpressivitySettings:
    """A checked request for `benchmark expressivity`; attributes are its keys."""

    out: str
    overwrite: bool = False
    degrees_x: tuple[int, ...] = (0, 1, 2)
    degrees_y: tuple[int, ...] = (0, 1, 2)
    degrees_out: tuple[int, ...] = (0, 1, 2)
    multiplicity: int = 1
    channels: int | None = None
    families: tuple[str, ...] = ()
    rows: int = 1000
    threads: int | None = None
    seconds: float = SMALL_SECONDS
    seed: int = 0


def product_settings(values: dict[str, Any]) -> ProductSettings:
    """Settings of `benchmark tensor_product`.

    Args:
        values: The keys that were given.

    Raises:
        UserError: If `out` is missing, or nothing is left to time.
    """
    require_out(values)
    preset = values.get("preset", "small")
    plans = tuple(change_plan(plan, values) for plan in PRESETS[preset] if kept(plan, values))
    if not plans or not all(plan.regimes for plan in plans):
        raise UserError(f"nothing is left to time: preset={preset} has none of the operations and regimes given.")
    own = {field.name for field in fields(ProductSettings)}
    given = {name: value for name, value in values.items() if name in own}
    return ProductSettings(**{"seconds": SMALL_SECONDS if preset == "small" else LONG_SECONDS, **given}, plans=plans)


def expressivity_settings(values: dict[str, Any]) -> ExpressivitySettings:
    """Settings of `benchmark expressivity`.

    Args:
        values: The keys that were given.

    Raises:
        UserError: If `out` is missing.
    """
    require_out(values)
    return ExpressivitySettings(**values)


def require_out(values: dict[str, Any]) -> None:
    """Refuse a request that does not say where the results go."""
    if "out" not in values:
        raise UserError("out is missing: give out=FOLDER for the results.")


def kept(plan: Plan, values: dict[str, Any]) -> bool:
    """Whether a plan of a preset is among what was asked for."""
    regimes = set(values.get("regimes", REGIMES))
    wanted = plan.operation != "feature" or bool(regimes & set(plan.regimes))
    return wanted and plan.operation in values.get("operations", OPERATIONS)


def change_plan(plan: Plan, values: dict[str, Any]) -> Plan:
    """A plan of a preset with the keys that were given."""
    changes: dict[str, Any] = {
        name: values[name] for name in ("degrees", "channels", "families", "passes") if name in values
    }
    if BATCH_KEYS[plan.operation] in values:
        changes["batches"] = values[BATCH_KEYS[plan.operation]]
    if "regimes" in values:
        changes["regimes"] = tuple(name for name in plan.regimes if name in values["regimes"])
    return replace(plan, **changes)
