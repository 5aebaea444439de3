"""The meaning of a graph: every node's tensor, in float64 numpy. The oracle that every later stage is tested against.

Nothing here is fast on purpose, except that a sum of products goes through einsum. An expression is evaluated over a
grid: each axis is a dimension of its own, and a value has extent 1 along the axes that it does not depend on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from irc.codegen.expr import Axis, Const, Expr, Index, Kind, Load, Local, Op, Size, integer, offset
from irc.codegen.fold import FAR
from irc.graph.ir import Graph, Input, Map, Reduce, Scatter, Update, remainder_name, shape
from irc.graph.philox import uniform

Array = NDArray[Any]

DTYPES: dict[Kind, Any] = {Kind.FLOAT: np.float64, Kind.INT: np.int64, Kind.BOOL: np.bool_}
CHUNK = 2**26  # points of a grid that are held at once


LARGEST = 2**31 - 1  # beyond it a floor is this number, or less it, and that of NaN 0


def interpret(graph: Graph, inputs: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Array]:
    """The value of every node by its name, inputs included: float64, int64 or bool; and beside each logsumexp what its
    float leaves out, which weights are made with: where scores tie at 1e17, it has lost the number of keys.

    `inputs` are by node name; `sizes` need not hold those that the graph defines. Raises `ValueError` for an input that
    is missing or of the wrong shape, `IndexError` for an access outside its tensor, each naming the tensor.
    """
    known = complete_sizes(graph, sizes)
    values: dict[str, Array] = {}
    with np.errstate(all="ignore"):
        for node in graph:
            rest = remainder_name(node.name)
            if isinstance(node, Input):
                values[node.name] = _input(node, inputs, known)
                if node.role == "saved" and rest in inputs:
                    values[rest] = np.asarray(inputs[rest])
            elif isinstance(node, Reduce) and node.op == "logsumexp":
                parts = _logsumexp(node, grid(node.axes + node.over, values, known))
                values[node.name], values[rest] = (_merge(part, node, known) for part in parts)
            else:
                values[node.name] = _node(node, values, known)
    return values


def complete_sizes(graph: Graph, sizes: Mapping[str, int]) -> dict[str, int]:
    """The given sizes and those that the graph defines by them."""
    known = dict(sizes)
    for name, definition in graph.sizes:
        if name not in known and definition is not None:
            known[name] = size_value(definition, known)
    return known


def size_value(expr: Expr, sizes: Mapping[str, int]) -> int:
    """The value of an integer expression over sizes. Raises `KeyError` for a size that is not given."""
    return int(evaluate(expr, Grid((), sizes)))


def _input(node: Input, inputs: Mapping[str, Any], sizes: Mapping[str, int]) -> Array:
    if node.name not in inputs:
        raise ValueError(f"input '{node.name}' is missing")
    array = np.asarray(inputs[node.name]).astype(DTYPES[node.kind])
    expected = tuple(size_value(e, sizes) for e in node.shape)
    if array.shape != expected:
        raise ValueError(f"input '{node.name}' has shape {array.shape}, expected {expected}")
    return array


# grids


@dataclass(frozen=True, slots=True)
class Grid:
    """Where an expression is evaluated: axis number n is dimension n, and runs over `ranges[n]`.

    `active`, where it stands, is false at points whose value nobody will use: an access there may be out of range.
    """

    axes: tuple[str, ...]
    sizes: Mapping[str, int]
    values: Mapping[str, Array] = field(default_factory=dict)
    ranges: tuple[range, ...] = ()
    local: Mapping[str, Array] = field(default_factory=dict)
    active: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(r) for r in self.ranges)

    def index(self, name: str) -> Array:
        at = self.axes.index(name)
        along = [1] * len(self.axes)
        along[at] = -1
        return np.arange(self.ranges[at].start, self.ranges[at].stop, dtype=np.int64).reshape(along)

    def only(self, condition: Array) -> Grid:
        """The same grid, with nobody interested where the condition fails."""
        return replace(self, active=condition if self.active is None else self.active & condition)

    def chunks(self, leading: int) -> Iterator[tuple[Grid, tuple[slice, ...]]]:
        """Parts and where each lies: the longest of the `leading` axes is cut until a part has at most CHUNK points."""
        points = math.prod(self.shape)
        if leading == 0 or points <= CHUNK:
            yield self, ()
            return
        cut = max(range(leading), key=lambda n: len(self.ranges[n]))
        whole = self.ranges[cut]
        step = max(1, CHUNK * len(whole) // points)
        for start in range(0, len(whole), step):
            part = whole[start : start + step]
            ranges = (*self.ranges[:cut], part, *self.ranges[cut + 1 :])
            yield replace(self, ranges=ranges), (*[slice(None)] * cut, slice(part.start, part.stop))


def grid(axes: tuple[Axis, ...], values: Mapping[str, Array], sizes: Mapping[str, int]) -> Grid:
    """The whole grid of some axes."""
    ranges = tuple(range(size_value(a.size, sizes)) for a in axes)
    return Grid(tuple(a.name for a in axes), sizes, values, ranges)


# expressions


def evaluate(expr: Expr, at: Grid) -> Array:
    """The value over the grid; of extent 1 along each axis on which it does not depend."""
    match expr:
        case Const(value, kind):
            return np.asarray(value, dtype=DTYPES[kind]).reshape((1,) * len(at.axes))
        case Index(name):
            return at.index(name)
        case Size(name):
            return np.asarray(at.sizes[name], dtype=np.int64).reshape((1,) * len(at.axes))
        case Local(name, _):
            return np.asarray(at.local[name])
        case Load():
            return _load(expr, at)
        case Op("where", (condition, a, b), _):
            chosen = evaluate(condition, at)
            return np.where(chosen, evaluate(a, at.only(chosen)), evaluate(b, at.only(~chosen)))
        case Op("and", (a, b), _):  # the right side counts only where the left one holds: `j >= n and tree[j - n]`
            left = evaluate(a, at)
            return np.asarray(left & evaluate(b, at.only(left)))
        case Op("or", (a, b), _):
            left = evaluate(a, at)
            return np.asarray(left | evaluate(b, at.only(~left)))
        case Op("exp" | "share" as name, (Op("sub", (score, Load(lse, places) as rounded)),)) if (
            remainder_name(lse) in at.values
        ):
            rest = evaluate(Load(remainder_name(lse), places), at)
            return apply(name, [evaluate(score, at) - evaluate(rounded, at) - rest])
        case Op("segment", (Load() as row, count, position), _):
            return _segment(row, evaluate(count, at), evaluate(position, at), at)
        case Op(name, args, _):
            return apply(name, [evaluate(a, at) for a in args])
        case _:
            assert_never(expr)


def _segment(row: Load, count: Array, position: Array, at: Grid) -> Array:
    """How many entries of a table, from the second on, are at most the position: counted, whatever their order."""
    found = np.zeros_like(position)
    for n in range(1, int(count.max(initial=0))):
        there = n < count
        found = found + (there & (evaluate(offset(row, integer(n)), at.only(there)) <= position))
    return found


def apply(name: str, x: list[Array]) -> Array:
    """One operation of `OPS` on arrays."""
    match name:
        case "flat":
            position = x[0]
            for index, size in zip(x[2::2], x[3::2], strict=True):
                position = position * size + index
            return position
        case "clamp":
            return np.minimum(np.maximum(x[0], x[1]), x[2])
        case "where":
            return np.where(x[0], x[1], x[2])
        case "rsqrt":
            return np.asarray(1.0 / np.sqrt(x[0]))
        case "sigmoid":  # exp of a negative number only, so that it cannot overflow
            small = np.exp(-np.abs(x[0]))
            return np.asarray(np.where(x[0] >= 0, 1.0, small) / (1.0 + small))
        case "share":
            return np.asarray(np.exp(np.minimum(x[0], 0.0)))
        case "erf":
            return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x[0]))
        case "relu":
            return np.maximum(x[0], 0.0)
        case "random":
            return uniform(x[0], x[1], x[2], x[3])
        case "pow" if all(issubclass(a.dtype.type, np.integer) for a in x):
            return _whole_power(*np.broadcast_arrays(*(a.astype(np.int64) for a in x)))
        case "floor":
            return np.asarray(np.clip(np.nan_to_num(np.floor(x[0])), -LARGEST, LARGEST).astype(np.int64))
        case "float":
            return x[0].astype(np.float64)
        case _:
            return np.asarray(_FUNCTIONS[name](*x))


def _whole_power(base: Array, exponent: Array) -> Array:
    """As `whole_power` has it, element by element."""
    size, sign = np.ones_like(base), np.where((base < 0) & (exponent % 2 == 1), -1, 1)
    for n in range(min(int(exponent.max(initial=0)), FAR)):
        held = size > (1 << FAR) // np.maximum(np.abs(base), 1)
        size = np.where(n < exponent, np.where(held, 1 << FAR, size * np.abs(base)), size)
    return np.asarray(sign * size)


_FUNCTIONS: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative,
    "min": np.minimum, "max": np.maximum, "abs": np.abs,
    "floordiv": np.floor_divide, "mod": np.mod,
    "div": np.divide, "pow": np.power, "exp": np.exp, "log": np.log, "sqrt": np.sqrt,
    "sin": np.sin, "cos": np.cos, "tanh": np.tanh,
    "lt": np.less, "le": np.less_equal, "eq": np.equal, "ne": np.not_equal,
    "and": np.logical_and, "or": np.logical_or, "not": np.logical_not,
}  # fmt: skip


def _load(load: Load, at: Grid) -> Array:
    tensor = at.values[load.tensor]
    plain = _plain(load, tensor, at)
    if plain is not None:
        return plain
    indices = []
    for expr, extent in zip(load.indices, tensor.shape, strict=True):
        index = evaluate(expr, at)
        outside = (index < 0) | (index >= extent)
        if 0 not in at.shape and (outside if at.active is None else outside & at.active).any():
            raise IndexError(f"an index of '{load.tensor}' leaves its axis of size {extent}")
        indices.append(np.clip(index, 0, max(extent - 1, 0)))
    if 0 in tensor.shape:  # no element to clip to, and none that anybody would use
        return np.zeros(np.broadcast_shapes(*(i.shape for i in indices)), dtype=tensor.dtype)
    return np.asarray(tensor[tuple(indices)]) if indices else tensor.reshape((1,) * len(at.axes))


def _plain(load: Load, tensor: Array, at: Grid) -> Array | None:
    """The view of a tensor that is read at distinct indices, each within its extent; None otherwise."""
    names = [e.name for e in load.indices if isinstance(e, Index)]
    if not names or len(set(names)) != len(load.indices):
        return None
    where = [at.axes.index(n) for n in names]
    spans = [at.ranges[p] for p in where]
    if any(s.stop > extent for s, extent in zip(spans, tensor.shape, strict=True)):
        return None
    part = tensor[tuple(slice(s.start, s.stop) for s in spans)]
    order = sorted(range(len(where)), key=where.__getitem__)
    extents = [1] * len(at.axes)
    for p, s in zip(where, spans, strict=True):
        extents[p] = len(s)
    return part.transpose(order).reshape(extents)


# nodes


def _node(node: Map | Reduce | Scatter, values: Mapping[str, Array], sizes: Mapping[str, int]) -> Array:
    match node:
        case Map():
            return _merge(_map(node, grid(node.axes, values, sizes)), node, sizes)
        case Reduce():
            return _merge(_reduce(node, grid(node.axes + node.over, values, sizes)), node, sizes)
        case Scatter():
            out = np.zeros(tuple(size_value(e, sizes) for e in node.shape))
            for update in node.updates:
                for part, _ in grid(update.over, values, sizes).chunks(len(update.over)):
                    _add(out, node.name, update, part)
            return out
        case _:
            assert_never(node)


def _merge(array: Array, node: Map | Reduce, sizes: Mapping[str, int]) -> Array:
    """Axes that share a dimension become one."""
    return array.reshape(tuple(size_value(e, sizes) for e in shape(node)))


def _map(node: Map, whole: Grid) -> Array:
    out = np.zeros(whole.shape, DTYPES[node.body.kind])
    for part, where in whole.chunks(len(node.axes)):
        if node.where is None:
            out[where] = evaluate(node.body, part)
        else:
            allowed = evaluate(node.where, part)
            out[where] = np.where(allowed, evaluate(node.body, part.only(allowed)), out.dtype.type(0))
    return out


def _logsumexp(node: Reduce, whole: Grid) -> tuple[Array, Array]:
    """The reduction, and what its float leaves out."""
    rest = np.zeros(whole.shape[: len(node.axes)])
    return _reduce(node, whole, rest), rest


def _reduce(node: Reduce, whole: Grid, rest: Array | None = None) -> Array:
    if node.op == "sum":
        product = _contract(node, whole)
        if product is not None:
            return product
    count = len(node.axes)
    over = tuple(range(count, count + len(node.over)))
    out = np.zeros(whole.shape[:count], np.int64 if node.op == "argmax" else np.float64)
    for part, where in whole.chunks(count):
        nothing = 0.0 if node.op == "sum" else -np.inf
        allowed = np.ones((1,) * len(part.axes), np.bool_)
        if node.where is None:
            body = evaluate(node.body, part)
        else:
            allowed = evaluate(node.where, part)
            body = np.where(allowed, evaluate(node.body, part.only(allowed)), nothing)
        body = np.broadcast_to(body, part.shape).astype(np.float64, copy=False)
        if node.op == "argmax":
            out[where] = _first_largest(body, np.broadcast_to(allowed, part.shape), count)
            continue
        init = None if node.init is None else evaluate(node.init, part)
        if node.op == "logsumexp":
            out[where], left = (a.reshape(part.shape[:count]) for a in _log_of_sum(body, over, init))
            if rest is not None:
                rest[where] = left
            continue
        fold = body.sum(axis=over) if node.op == "sum" else np.max(body, axis=over, initial=-np.inf)
        out[where] = fold
    return out


def _first_largest(body: Array, allowed: Array, leading: int) -> Array:
    """The first allowed position of the largest value, in the flattened trailing dimensions; -1 where there is none."""
    shape = (*body.shape[:leading], math.prod(body.shape[leading:]))
    values, possible = np.where(np.isnan(body), -np.inf, body).reshape(shape), allowed.reshape(shape)
    largest = values.max(axis=-1, keepdims=True, initial=-np.inf, where=possible)
    found = possible & (values == largest)
    return np.where(found.any(axis=-1), found.argmax(axis=-1) if shape[-1] else -1, -1)


def _log_of_sum(body: Array, over: tuple[int, ...], init: Array | None) -> tuple[Array, Array]:
    """The logarithm of a sum of exponentials, the dimensions kept with extent 1, and what is lost by rounding it."""
    top = np.asarray(np.max(body, axis=over, keepdims=True, initial=-np.inf))
    if init is not None:
        top = np.maximum(top, init)
    shift = np.where(np.isfinite(top), top, 0.0)  # -inf - -inf would be NaN
    total = np.exp(body - shift).sum(axis=over, keepdims=True)
    if init is not None:
        total = total + np.exp(init - shift)
    log = np.log(total)
    result = np.asarray(log + shift)
    of_shift = result - log
    lost = (log - (result - of_shift)) + (shift - of_shift)
    return result, np.where(np.isfinite(lost), lost, 0.0)


def _factors(expr: Expr) -> tuple[Expr, ...]:
    match expr:
        case Op("mul", (a, b), Kind.FLOAT):
            return _factors(a) + _factors(b)
        case _:
            return (expr,)


def _contract(node: Reduce, whole: Grid) -> Array | None:
    """A sum of products through einsum, the predicate being one more factor; None where 0 * x may not be 0."""
    factors = _factors(node.body)
    if len(factors) == 1:
        return None
    at, arrays = whole, []
    if node.where is not None:
        allowed = evaluate(node.where, whole)
        at = whole.only(allowed)
        arrays.append(allowed.astype(np.float64))
    arrays += [evaluate(f, at) for f in factors]
    if not all(np.isfinite(a).all() for a in arrays):
        return None
    operands: list[Any] = []
    seen: set[int] = set()
    for array in arrays:
        dims = [n for n, extent in enumerate(array.shape) if extent != 1]
        seen.update(dims)
        operands += [array.reshape([array.shape[n] for n in dims]), dims]
    for n in set(range(len(whole.axes))) - seen:  # an axis on which no factor depends
        operands += [np.ones(whole.shape[n]), [n]]
    return np.asarray(np.einsum(*operands, list(range(len(node.axes))), optimize=True))


def _add(out: Array, name: str, update: Update, part: Grid) -> None:
    if 0 in out.shape:  # no element, and none that anybody would use
        return
    allowed = None if update.where is None else evaluate(update.where, part)
    at = part if allowed is None else part.only(allowed)
    chosen = np.ones(part.shape, np.bool_) if allowed is None else np.broadcast_to(allowed, part.shape)
    indices = []
    for expr, extent in zip(update.indices, out.shape, strict=True):
        index = np.broadcast_to(evaluate(expr, at), part.shape)[chosen]
        if ((index < 0) | (index >= extent)).any():
            raise IndexError(f"an index of '{name}' leaves its axis of size {extent}")
        indices.append(index)
    np.add.at(out, tuple(indices), np.broadcast_to(evaluate(update.body, at), part.shape)[chosen])
