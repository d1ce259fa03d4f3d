"""What training costs: seconds, bytes between parties, and floating-point operations, a proxy for energy.

Operations are counted from the traced program, not measured: XLA's own analysis counts the body of a loop
once, whatever its length (`tests/run/test_cost.py` holds it against this count where there is no loop).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lazaretto.cut import Cut
from lazaretto.evaluate.scored import OURS
from lazaretto.local import LocalTraining, SiteData, batches_in_round, local_start, make_site_round
from lazaretto.parameters import parameter_count, unravel_of
from lazaretto.run.prepare import Prepared, members
from lazaretto.types import Model

__all__ = ["cost_of_training", "cost_table", "operations", "pooled_bytes", "seconds_table"]

# one operation for each element of the result, where that is a float
_BY_RESULT = frozenset(
    (
        *("abs", "add", "add_any", "div", "integer_pow", "max", "min", "mul", "neg", "pow", "rem", "round"),
        *("rsqrt", "sign", "sqrt", "square", "sub", "cbrt"),
        *("erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "log", "log1p", "logistic", "tanh"),
        *("atan2", "cos", "sin", "tan"),
    )
)
# one for each element of what is reduced or scattered
_BY_OPERAND = {
    "reduce_sum": 0,
    "reduce_max": 0,
    "reduce_min": 0,
    "reduce_prod": 0,
    "argmax": 0,
    "cumsum": 0,
    "cumlogsumexp": 0,
    "cummax": 0,
    "cumprod": 0,
    "scatter-add": 2,
    "scatter_add": 2,
}


def operations(jaxpr: Any, trips: int = 1) -> float:
    """Floating-point operations of a jaxpr: loops of fixed length multiplied out, other loops `trips` times.

    A product of matrices or a convolution counts two for each multiplication with its addition, any other
    arithmetic one for each element, exponentials and their like too; of branches the dearest counts. Moving,
    comparing, sorting and drawing random numbers count nothing.
    """
    return sum(_of_equation(equation, trips) for equation in jaxpr.eqns)


def _of_equation(equation: Any, trips: int) -> float:
    name, params = equation.primitive.name, equation.params
    inner = list(_jaxprs(params.values()))
    if name == "cond":
        return max(operations(branch, trips) for branch in inner)
    if inner:
        times = params["length"] if name == "scan" else trips if name == "while" else 1
        return times * sum(operations(one, trips) for one in inner)
    result = equation.outvars[0].aval
    if not jnp.issubdtype(result.dtype, jnp.floating):
        return 0.0
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        contraction = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return float(2.0 * result.size * contraction)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        outputs = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        return float(2.0 * result.size * kernel.size / outputs)
    if name in _BY_OPERAND:
        return float(equation.invars[_BY_OPERAND[name]].aval.size)
    return float(result.size) if name in _BY_RESULT else 0.0


def _jaxprs(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple | list):
            yield from _jaxprs(value)
        elif hasattr(value, "eqns"):
            yield value
        elif hasattr(value, "jaxpr"):
            yield value.jaxpr


def cost_of_training(
    model: Model,
    cut: Cut,
    training: LocalTraining,
    kinds: int,
    data: SiteData,
    rounds: int,
) -> list[dict[str, Any]]:
    """For each entry of the leading axis of `data` that holds units: "flops", the operations of its whole
    training as the program runs it, padding of batches with it, and "parameters". Scoring is not counted.
    """
    still, batch, parameters = _of_a_round(model, cut, training, kinds, data.x.shape[1:])
    size = min(training.batch_units, data.x.shape[2])
    whole = [-(-int(real) // size) for real in np.asarray(data.units) if real]
    # `batch` holds one of every pass of a round
    batches = [batches_in_round(training.local_epochs, b) / math.ceil(training.local_epochs) for b in whole]
    return [
        {"flops": rounds * (still + (batch - still) * number), "parameters": parameters} for number in batches
    ]


@functools.lru_cache(maxsize=32)  # tracing takes half a second, and sites and seeds share a program
def _of_a_round(
    model: Model, cut: Cut, training: LocalTraining, kinds: int, sizes: tuple[int, int, int, int]
) -> tuple[float, float, int]:
    """Operations of one site's round without a batch and with one batch, and how many parameters there are.

    sizes: devices, units, steps, features.
    """
    devices, units, length, features = sizes
    unravel = unravel_of(model, features, kinds)
    shape: Any = jax.ShapeDtypeStruct
    vector = shape((parameter_count(model, features, kinds),), np.float32)
    state = jax.eval_shape(lambda v: local_start(model, training, v, unravel, devices), vector)
    one = SiteData(
        shape((devices, units, length, features), np.float32),
        shape((devices, units, length), np.int32),
        shape((devices, units, length), np.float32),
        shape((), np.int32),
        shape((kinds + 2,), np.float32),
    )
    site_round = make_site_round(model, cut, training, unravel)
    traced = jax.make_jaxpr(site_round)(state, one, jax.random.key(0), shape((), np.float32)).jaxpr
    # the only loop of unknown length is the one over a site's batches
    return operations(traced, 0), operations(traced, 1), int(np.prod(vector.shape))


def pooled_bytes(prepared: Prepared) -> int:
    """Bytes of bringing all training data to one place, once: float32 features and a byte of label a step."""
    rows = np.concatenate(members(prepared))
    steps = int(prepared.data.valid[rows].sum())
    return steps * (4 * len(prepared.scaling.center) + 1)  # as measured, not as laid out for a model


def cost_table(
    names: Sequence[str],
    stages: Iterable[Mapping[str, Any]],
    messages: Iterable[Mapping[str, Any]],
    pooling: int | None,
    sites: int,
) -> dict[str, Any]:
    """The part `cost` of metrics.json: system -> flops, bytes {up, down, inside} of one training.

    names: the systems. stages, messages: bodies of those records. pooling: of `pooled_bytes`, or None.
    bytes: up and down between sites and the place of training (for a pooled model the data once, and the
    model to each of `sites`), inside between devices and their site. None is what was not counted.
    """
    done, sent = list(stages), list(messages)
    return {
        name.replace(" ", "_"): {
            "flops": _mean([cost["flops"] for cost in _costs(name, done) if "flops" in cost]),
            "bytes": _bytes(name, done, sent, pooling, sites),
        }
        for name in names
        if any(stage["name"] == name for stage in done)
    }


def seconds_table(names: Sequence[str], stages: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    """The part `time.training_seconds` of metrics.json: system -> wall time of one training on all cores.

    Of the whole stage, scoring with it, less the compiling of the training step, divided by the trainings
    that it did side by side; mean over seeds. Of a training that was interrupted only the last part counts.
    """
    done = list(stages)
    found: dict[str, list[float]] = {}
    for name in names:
        for stage in (stage for stage in done if stage["name"] == name):
            running = max(float(stage["seconds"]) - (stage.get("compile_seconds") or 0.0), 0.0)
            trainings = int((stage.get("cost") or {}).get("trainings", 1))
            found.setdefault(name.replace(" ", "_"), []).append(running / trainings)
    return {name: _mean(seconds) for name, seconds in found.items()}


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _costs(name: str, stages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [stage.get("cost") or {} for stage in stages if stage["name"] == name]


def _bytes(
    name: str,
    stages: Sequence[Mapping[str, Any]],
    messages: Sequence[Mapping[str, Any]],
    pooling: int | None,
    sites: int,
) -> dict[str, int | None]:
    if name == "local":
        return {"up": 0, "down": 0, "inside": None}
    found = next((body["rows"] for body in messages if body["system"] == name), None)
    if found is not None:
        outside = [row for row in found if row["link"].startswith("site-")]
        return {
            "up": sum(row["bytes"] for row in outside if row["direction"] == "up"),
            "down": sum(row["bytes"] for row in outside if row["direction"] == "down"),
            "inside": sum(row["bytes"] for row in found if row["link"] == "device-site"),
        }
    if name == OURS:
        return {"up": None, "down": None, "inside": None}
    costs = _costs(name, stages)
    parameters = next((int(cost["parameters"]) for cost in costs if "parameters" in cost), None)
    return {"up": pooling, "down": None if parameters is None else 4 * parameters * sites, "inside": 0}
