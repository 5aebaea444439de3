"""A test that cannot fail is a defect: each point of what the language means is broken on purpose, near where such a
bug would be made, and the test that guards it must notice."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from irc import stored
from irc.calls.calls import PreparedCall
from irc.codegen.expr import Expr, Index, Load, Size, integer, number, op
from irc.elaborate import core
from irc.elaborate.core import CoreBuilder
from irc.fusion import fuse
from irc.graph import ir
from irc.graph.ir import Graph, Map, Node, Reduce
from irc.passes.simplify import rewrite
from tests import test_differentiate, test_few_rows, test_kernels
from tests.infinite_scores import assert_agree
from tests.seeds import Plant, in_graph, in_source, instead, loads_of


def without_mask(node: Node) -> Node:
    """The pair is multiplied by a weight of 0 instead of not existing."""
    return replace(node, where=None) if isinstance(node, Reduce) and node.op == "sum" else node


def one_key_further(node: Node) -> Node:
    """j <= i becomes j <= i + 1."""

    def shift(expr: Expr) -> Expr:
        if getattr(expr, "name", "") == "le" and len(args := getattr(expr, "args", ())) == 2:
            return op("le", op("sub", args[0], one), args[1])
        return expr

    one = integer(1)
    where = getattr(node, "where", None)
    return replace(node, where=shift(where)) if where is not None and isinstance(node, Map | Reduce) else node


def sentinel(node: Node) -> Node:
    """Blocked scores become -1e9 instead of not existing."""
    if isinstance(node, Reduce) and node.op == "logsumexp" and node.where is not None:
        return replace(node, body=op("where", node.where, node.body, number(-1e9)), where=None)
    if isinstance(node, Map) and node.where is not None:
        return replace(node, where=None)
    return replace(node, where=None) if isinstance(node, Reduce) else node


def counted_as_mask(honest: Callable[..., None], builder: CoreBuilder, stage: Any) -> None:
    """A large negative bias warns, and blocks its pairs."""
    honest(builder, stage)
    if stage.kind == "bias":
        value: Any = builder.biases[-1][1]
        builder.masks.append(ir.Mask("allow", value.args[0]))


def neighbour(load: Expr) -> Expr:
    """The element at the next batch entry."""
    assert isinstance(load, Load)
    batch = Index("b")
    following = op("mod", op("add", batch, integer(1)), Size("B"))
    return replace(load, indices=tuple(following if i == batch else i for i in load.indices))


def no_cotangent_of_lse(honest: Callable[..., Any], call: PreparedCall, tensors: Any, given: Any, owned: Any) -> Any:
    return honest(call, tensors, {name: value for name, value in given.items() if name != "lse"}, owned)


def of_cotangent(output: str, change: Callable[[Expr], Expr]) -> Callable[[Node], Node]:
    return loads_of(f"cotangent.{output}", change)


def nothing(_: Expr) -> Expr:
    return number(0.0)


def negated(expr: Expr) -> Expr:
    return op("neg", expr)


@dataclass(frozen=True)
class Seed:
    point: str  # of LANGUAGE, "What it means, exactly"
    broken: str
    plant: Plant
    notices: Callable[[], None]


def blocked_nan() -> None:
    test_kernels.test_blocked_non_finite_values_change_no_bit(np.nan)


def carries(output: str) -> Callable[[], None]:
    return lambda: test_kernels.test_every_output_and_statistic_carries_a_cotangent(output)


def lse(dtype: str) -> Callable[[], None]:
    return lambda: test_kernels.test_logsumexp_is_natural_and_of_the_accuracy_of_the_arithmetic(dtype)


def biased() -> None:
    test_kernels.test_a_large_negative_bias_is_no_mask("f16")


def long_sums(name: str = "sums") -> Callable[[], None]:
    return lambda: test_kernels.test_long_sums_are_made_in_fp32("bf16", name)


def same_bits(name: str) -> Callable[[], None]:
    def check() -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            test_kernels.test_the_same_call_gives_the_same_bits(name, monkeypatch)

    return check


def blocked_nan_of_few_rows() -> None:
    test_few_rows.test_blocked_values_that_are_not_finite_change_no_bit("table", np.nan)


def same_bits_of_few_rows() -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        test_few_rows.test_no_bit_depends_on_threads_or_on_other_batch_entries(monkeypatch)


def infinite_scores(rows: int) -> Callable[[], None]:
    return lambda: assert_agree("causal", rows, 70, "f32", "cpu")


# Changes of the generated C++: what stands there, and what a careless template would have put.
LSE_IN_BASE_2 = (r"(\(row_shift \+ lane\))( \* LN_2)? \+ (irc::log\(sum\))", r"\1 + \3 * LOG2_E")
LSE_ROUNDED = (r"(row_shift\[row_at - row_base\])", r"irc::widen(irc::to_bf16(\1))")
UNDERFLOW = (r"T\(-100000\.0\)", "-irc::inf<T>()")
RELATIVE_TO_INFINITY = (r"irc::shift_of\((sum|highest\[w\])\)", r"\1")
RELATIVE_TO_INFINITY_OF_FEW_ROWS = (r"irc::shift_of\((T\(irc::joined.*)\);", r"\1;")
SHORT_PRODUCTS = (
    r"(block\[m\]\[n\]) = (Form::multiply_add\(.*\));",
    r"\1 = (V)(((VecI)(\2) + 0x8000) & ~0xffff);",
)
SINGLE_PRODUCTS = (
    r"return sum \+ a \* b;",
    "typedef typename VectorTraits<V>::mask M; return (V)((M)(sum + a * b) & (M{} - 0x20000000));",  # 23 bits stay
)
SHORT_DENOMINATOR = (
    r"irc::store_vector\(row_sum \+ lane, (.*)\);",
    r"irc::store_vector(row_sum + lane, (vec)(((ivec)(\1) + 0x8000) & ~0xffff));",
)
SHORT_TABLE = (  # in `add_run`
    r"store_as\((\w+), (load_as<V>\(\w+\) \+ .*)\);",
    r"store_as(\1, (V)(((VecI)(\2) + 0x8000) & ~0xffff));",
)
COLUMNS_BY_THREAD = (
    r"for \(int64_t (column_tile) = last_up_to\(.*\) \{",
    r"for (int64_t turn = 0, turns = (column_extent + COLUMNS - 1) / COLUMNS, next; turn < turns; ++turn) {"
    r"const int64_t \1 = (turn + omp_get_thread_num()) % turns;",
)
ROWS_BY_THREAD = (
    r"for \(int64_t (row_base) = part \* ROWS;.*\) \{",
    r"for (int64_t turn = 0; turn < row_tiles; ++turn) {"
    r"const int64_t \1 = (turn + omp_get_thread_num()) % row_tiles * ROWS;",
)
UNGUARDED = (r"const bool guarded = masked && .*;", "const bool guarded = false;")
PARTS_BY_THREADS = (r"(const int64_t parts = )(.*column_extent / PART\);)", r"\1threads; // \2")
SHORT_DISTANCES = (
    r"store_vector\(at, load_vector<V>\(at\) \+ block\[n\]\);",
    "store_vector(at, (V)(((VecI)(load_vector<V>(at) + block[n]) + 0x8000) & ~0xffff));",
)
COPIES_IN_TURN = (r"\[row__chunk\*", "[([] { static uint32_t turn; return turn++ / 7; }() % chunks)*")
NOT_CLEARED = (r"std::fill_n\(begun, PANELS, false\);", "")
COLUMNS_NOT_CLEARED = (r"std::fill_n\(column_result_\d+, .*;", "")

future = test_kernels.test_the_future_changes_no_bit_of_the_past
empty_rows = test_kernels.test_rows_without_keys_are_zero_and_pass_no_gradient
batch = test_kernels.test_a_batch_entry_does_not_depend_on_the_others

SEEDS = [
    Seed("1", "sums see blocked pairs", in_graph("specialise", without_mask), blocked_nan),
    Seed("1", "gradients see blocked pairs", in_graph("differentiate", without_mask), blocked_nan),
    Seed("1", "a mask off by one", in_graph("specialise", one_key_further), future),
    Seed("1", "few rows: a weight of 0 times a blocked NaN", in_source(*UNGUARDED), blocked_nan_of_few_rows),
    Seed("2", "blocked scores are -1e9", in_graph("specialise", sentinel), empty_rows),
    Seed("3", "nothing warns", instead(core, "warn_of_mask", lambda *_: None), biased),
    Seed("3", "a bias counts as a mask", instead(CoreBuilder, "_score", counted_as_mask), biased),
    Seed("3", "-1e5 becomes -inf", in_source(*UNDERFLOW), biased),
    Seed("4", "lse to the base 2", in_source(*LSE_IN_BASE_2), lse("f32")),
    Seed("4", "lse stored as bf16", instead(fuse._Fuser, "_statistic", lambda *_: False), lse("bf16")),
    Seed("4", "lse rounded to bf16", in_source(*LSE_ROUNDED), lse("bf16")),
    Seed("4", "a score of inf less itself", in_source(*RELATIVE_TO_INFINITY), infinite_scores(70)),
    Seed("4", "few rows: the same", in_source(*RELATIVE_TO_INFINITY_OF_FEW_ROWS), infinite_scores(11)),
    Seed(
        "6", "the cotangent of lse is not taken", instead(PreparedCall, "backward", no_cotangent_of_lse), carries("lse")
    ),
    *(
        Seed("6", f"cotangent of {name} {how}", in_graph("differentiate", of_cotangent(name, change)), carries(name))
        for name, how, change in (
            ("o", "negated", negated),
            ("lse", "dropped", nothing),
            ("lse", "negated", negated),
            ("m", "dropped", nothing),
            ("e", "dropped", nothing),
        )
    ),
    Seed("7", "f64 accumulates in f32", in_source(*SINGLE_PRODUCTS), lse("f64")),
    Seed("7", "products accumulate in bf16", in_source(*SHORT_PRODUCTS), long_sums()),
    Seed("7", "the denominator accumulates in bf16", in_source(*SHORT_DENOMINATOR), long_sums()),
    Seed("7", "a table's gradient accumulates in bf16", in_source(*SHORT_TABLE), long_sums()),
    Seed("7", "sums of distances accumulate in bf16", in_source(*SHORT_DISTANCES), long_sums("table")),
    Seed("8", "forward sums begin by thread", in_source(*COLUMNS_BY_THREAD), same_bits("causal")),
    Seed("8", "backward sums begin by thread", in_source(*ROWS_BY_THREAD), same_bits("causal")),
    Seed("8", "a table's copies are taken in turn, not by task", in_source(*COPIES_IN_TURN), same_bits("sums")),
    Seed("8", "few rows: as many sums as threads", in_source(*PARTS_BY_THREADS), same_bits_of_few_rows),
    Seed("8", "a sum reads the next batch entry", in_graph("specialise", loads_of("v", neighbour)), batch),
    Seed("8", "sums are not cleared for the next batch entry", in_source(*NOT_CLEARED), batch),
    Seed("8", "long sums are not cleared for the next batch entry", in_source(*COLUMNS_NOT_CLEARED), batch),
]


@pytest.mark.optimise("-O0")  # with which the tests pass too
@pytest.mark.parametrize("seed", SEEDS, ids=[f"{s.point}: {s.broken}" for s in SEEDS])
def test_a_broken_law_is_noticed(seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = f"broken {uuid.uuid4()}"  # nothing that it makes is to be found again
    monkeypatch.setattr(stored, "fingerprint", lambda: compiler)
    hits: list[str] = []
    seed.plant(monkeypatch, hits)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        seed.notices()
    assert hits, "the seed hit nothing"


@pytest.mark.parametrize("factor", [1.001, -1.0])
def test_a_wrong_derivative_is_noticed(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = test_differentiate.differentiate

    def scaled(graph: Graph) -> Graph:
        backward = honest(graph)
        return replace(
            backward,
            nodes=tuple(
                rewrite(n, lambda e: op("mul", number(factor), e)) if n.name == "d.o.score" else n for n in backward
            ),
        )

    monkeypatch.setattr(test_differentiate, "differentiate", scaled)
    with pytest.raises(AssertionError):
        test_differentiate.test_gradients_agree_with_central_differences("full")
