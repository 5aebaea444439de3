"""Every statement parses to its node, and every node knows its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from irc.grammar import syntax as s
from irc.grammar.parser import parse
from irc.grammar.source import Source, Span

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.attn"))

GPT2 = """\
# GPT-2's attention: fused weights, 12 heads of 64, causal.
attention gpt2 {
  size  B, S, H = 12, D = 64, E = H * D
  input x[B, S, E]
  param Wqkv[E, (3 H D)], bqkv[(3 H D)], Wo[(H D), E], bo[E]

  project {
    qkv[t,b,h,s,d] = x[b,s,e] * Wqkv[e,(t h d)] + bqkv[(t h d)]
    q[b,h,s,d] = qkv[0,b,h,s,d]
    k[b,h,s,d] = qkv[1,b,h,s,d]
    v[b,h,s,d] = qkv[2,b,h,s,d]
  }
  core o[b,h,i,d] {
    score  q[b,h,i,c] * k[b,h,j,c]
    scale  1 / sqrt(D)
    allow  j <= i
    softmax j
    matmul v[b,h,j,d]
  }
  merge {
    y[b,s,f] = o[b,h,s,d] * Wo[(h d),f] + bo[f]
  }
  return y
  ensure causal, rows nonempty
}
"""

SOFTCAP_WINDOW = """\
attention softcap_window {
  size   B, H, G, Sq, Sk, D
  input  q[B,H,Sq,D], k[B,G,Sk,D], v[B,G,Sk,D]
  scalar window: int, cap: float
  assume window >= 1, Sq <= Sk, H % G == 0

  core o[b,h,i,d], lse[b,h,i] {
    align  last                                 # the last query sees the last key
    score  q[b,h,i,c] * k[b, h // (H // G), j, c]   # grouped heads, in plain sight
    scale  1 / sqrt(D)
    map    cap * tanh(score / cap)
    allow  pos(i) - window < j and j <= pos(i)
    softmax j
    matmul v[b, h // (H // G), j, d]
  }
  return o, lse
  ensure causal, window(window), rows nonempty, incremental
}
"""


def statements(lines: str) -> tuple[s.Statement, ...]:
    (program,) = parse(Source("test", f"attention a {{\n{lines}\n}}\n"))
    return program.statements


def statement(lines: str) -> s.Statement:
    (only,) = statements(lines)
    return only


def stages(lines: str) -> tuple[object, ...]:
    core = statement(f"core o[b] {{\n{lines}\n}}")
    assert isinstance(core, s.Core)
    return core.statements


def stage(line: str) -> object:
    (only,) = stages(line)
    return only


def expression(text: str) -> s.Expression:
    found = stage(f"map {text}")
    assert isinstance(found, s.Stage)
    return found.value


def shape(node: s.Expression | None) -> str:
    """An expression with all its brackets, for looking at precedence."""
    match node:
        case s.Number(value) | s.Bool(value):
            return str(value)
        case s.Name(id):
            return id
        case s.Unary(op, operand):
            return f"({op} {shape(operand)})"
        case s.Binary(op, left, right):
            return f"({shape(left)} {op} {shape(right)})"
        case s.Compare(ops, operands):
            first, *rest = (shape(operand) for operand in operands)
            return f"({first}{''.join(f' {op} {r}' for op, r in zip(ops, rest, strict=True))})"
        case s.Call(function, args):
            return f"{function.id}({', '.join(shape(arg) for arg in args)})"
        case s.Access(tensor, indices):
            return f"{tensor.id}[{', '.join(shape(index) for index in indices)}]"
        case s.Group(items):
            return f"<{' '.join(shape(item) for item in items)}>"
        case s.Sum(over, body):
            return f"sum({' '.join(name.id for name in over)}: {shape(body)})"
        case _:
            raise AssertionError(node)


def spanned(node: object) -> Iterator[s.Spanned]:
    """A node and all below it."""
    if isinstance(node, s.Spanned):
        yield node
    if isinstance(node, tuple):
        for item in node:
            yield from spanned(item)
    elif is_dataclass(node) and not isinstance(node, Span):
        for field in fields(node):
            yield from spanned(getattr(node, field.name))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_parses(path: Path) -> None:
    assert parse(Source(str(path), path.read_text()))


def test_a_whole_block() -> None:
    (program,) = parse(Source("gpt2", GPT2))
    assert program.name.id == "gpt2"
    kinds = [type(node).__name__ for node in program.statements]
    assert kinds == ["SizeDecl", "TensorDecl", "TensorDecl", "Block", "Core", "Block", "Return", "Ensure"]
    core = program.statements[4]
    assert isinstance(core, s.Core)
    assert [node.kind for node in core.statements if isinstance(node, s.Stage)] == ["score", "scale", "allow", "matmul"]


def test_a_core_alone() -> None:
    (program,) = parse(Source("window", SOFTCAP_WINDOW))
    core, ensure = program.statements[4], program.statements[6]
    assert isinstance(core, s.Core) and isinstance(ensure, s.Ensure)
    assert [shape(output) for output in core.outputs] == ["o[b, h, i, d]", "lse[b, h, i]"]
    assert [p.name for p in ensure.properties] == ["causal", "window", "rows nonempty", "incremental"]
    assert shape(ensure.properties[1].argument) == "window"


def test_several_programs_in_one_text() -> None:
    assert [p.name.id for p in parse(Source("both", GPT2 + SOFTCAP_WINDOW))] == ["gpt2", "softcap_window"]


def test_a_program_on_one_line() -> None:
    (program,) = parse(Source("line", "attention a { core o[b] { score x } }"))
    assert isinstance(program.statements[0], s.Core)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_ends_a_statement(end: str) -> None:
    assert len(parse(Source("ends", GPT2.replace("\n", end)))[0].statements) == 8


# declarations


def test_size() -> None:
    found = statement("size B, H = 8, E = H*D")
    assert isinstance(found, s.SizeDecl)
    assert [(item.name.id, item.value and shape(item.value)) for item in found.items] == [
        ("B", None),
        ("H", "8"),
        ("E", "(H * D)"),
    ]


@pytest.mark.parametrize("role", ["input", "param", "const", "scalar"])
def test_tensors(role: str) -> None:
    found = statement(f"{role} Wo[(3 H D), N+1], doc[B,S]: int, w: int, cap, m[B]: bool")
    assert isinstance(found, s.TensorDecl) and found.role == role
    assert [
        (item.name.id, None if item.dims is None else [shape(dim) for dim in item.dims], item.type)
        for item in found.items
    ] == [
        ("Wo", ["<3 H D>", "(N + 1)"], None),
        ("doc", ["B", "S"], "int"),
        ("w", None, "int"),
        ("cap", None, None),
        ("m", ["B"], "bool"),
    ]


def test_assume() -> None:
    found = statement("assume 0 <= len[b] <= Sk, H % G == 0, nondecreasing doc[b,s] over s")
    assert isinstance(found, s.Assume)
    first, second, third = found.facts
    assert not isinstance(first, s.Nondecreasing) and shape(first) == "(0 <= len[b] <= Sk)"
    assert not isinstance(second, s.Nondecreasing) and shape(second) == "((H % G) == 0)"
    assert isinstance(third, s.Nondecreasing)
    assert (shape(third.value), third.over.id) == ("doc[b, s]", "s")


def test_ensure() -> None:
    found = statement(
        "ensure causal, window(w + 1), rows nonempty, incremental, batch independent, allow == j <= i and x"
    )
    assert isinstance(found, s.Ensure)
    assert [(p.name, p.argument and shape(p.argument)) for p in found.properties] == [
        ("causal", None),
        ("window", "(w + 1)"),
        ("rows nonempty", None),
        ("incremental", None),
        ("batch independent", None),
        ("allow", "((j <= i) and x)"),
    ]


def test_return() -> None:
    found = statement("return o, lse")
    assert isinstance(found, s.Return) and [name.id for name in found.names] == ["o", "lse"]


@pytest.mark.parametrize("kind", ["project", "merge"])
def test_index_assignments(kind: str) -> None:
    found = statement(f"{kind} {{\n let r = 1 / 2\n y[b,(h d)] = r * x[b,h,d] + sum(n m: e[n,m])\n}}")
    assert isinstance(found, s.Block) and found.kind == kind
    let, assign = found.statements
    assert isinstance(let, s.Let) and (let.name.id, shape(let.value)) == ("r", "(1 / 2)")
    assert isinstance(assign, s.Assign) and shape(assign.target) == "y[b, <h d>]"
    assert shape(assign.value) == "((r * x[b, h, d]) + sum(n m: e[n, m]))"


# cores


def test_core_header() -> None:
    found = statement("core o[b,i,d], lse[b,i] over j: P * R, t: N {\n score x\n}")
    assert isinstance(found, s.Core)
    assert [(item.name.id, shape(item.value)) for item in found.over] == [("j", "(P * R)"), ("t", "N")]


def test_a_brace_may_stand_on_its_own_line() -> None:
    found = statement("core o[b]\n\n{\n score x\n}")
    assert isinstance(found, s.Core) and len(found.statements) == 1


@pytest.mark.parametrize("kind", ["score", "scale", "bias", "map", "allow", "block", "matmul"])
def test_stages(kind: str) -> None:
    found = stage(f"{kind} (h + 1) * x")
    assert isinstance(found, s.Stage)
    assert (found.kind, shape(found.value)) == (kind, "((h + 1) * x)")


@pytest.mark.parametrize(
    ("line", "mode", "offset"),
    [
        ("align first", "first", None),
        ("align last", "last", None),
        ("align offset len[b] - Sq", "offset", "(len[b] - Sq)"),
    ],
)
def test_align(line: str, mode: str, offset: str | None) -> None:
    found = stage(line)
    assert isinstance(found, s.Align)
    assert (found.mode, found.offset and shape(found.offset)) == (mode, offset)


@pytest.mark.parametrize(
    ("line", "over", "sink"),
    [
        ("softmax j", "j", None),
        ("softmax (yj xj)", "<yj xj>", None),
        ("softmax j with sink[h]", "j", "sink[h]"),
        ("softmax (yj xj) with with", "<yj xj>", "with"),
    ],
)
def test_softmax(line: str, over: str, sink: str | None) -> None:
    found = stage(line)
    assert isinstance(found, s.Normaliser)
    assert (shape(found.over), found.sink and shape(found.sink)) == (over, sink)


def test_stat() -> None:
    found = stage("stat m[b,h,i] = max")
    assert isinstance(found, s.Stat) and (shape(found.target), found.function.id) == ("m[b, h, i]", "max")


# words and lines


def test_statement_words_are_names_elsewhere() -> None:
    declared, scalars, facts, core, merge = statements(
        "const bias[H,S,S], size[B]\nscalar window: int, over: int, core\nassume over >= 1, window >= core\n"
        "core score[b,h,i] {\n bias bias[h,i,j]\n map scale * score\n let let = block\n}\n"
        "merge {\n score[b] = score[b] * input[b]\n let[b] = 1\n}"
    )
    assert isinstance(declared, s.TensorDecl) and declared.items[1].name.id == "size"
    assert isinstance(scalars, s.TensorDecl) and scalars.items[2].name.id == "core"
    assert isinstance(facts, s.Assume) and len(facts.facts) == 2
    assert isinstance(core, s.Core) and isinstance(core.statements[0], s.Stage)
    assert shape(core.statements[0].value) == "bias[h, i, j]"
    assert isinstance(merge, s.Block) and [shape(a.target) for a in merge.statements if isinstance(a, s.Assign)] == [
        "score[b]",
        "let[b]",
    ]


def test_an_expression_in_brackets_goes_on_over_lines() -> None:
    found = stages("allow (\n  j <= i   # causal\n\n  and i > 0\n)\nsoftmax j")
    assert len(found) == 2
    assert isinstance(found[0], s.Stage) and shape(found[0].value) == "((j <= i) and (i > 0))"


# expressions


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a + b * c - d", "((a + (b * c)) - d)"),
        ("a // b % c / d", "(((a // b) % c) / d)"),
        ("-a ^ b ^ -c", "(- (a ^ (b ^ (- c))))"),
        ("- -a * b", "((- (- a)) * b)"),
        ("not a == b and not c or d", "(((not (a == b)) and (not c)) or d)"),
        ("a < b <= c == d != e", "(a < b <= c == d != e)"),
        ("(a < b) == c", "((a < b) == c)"),
        ("(h d) + (h) + (h + 1) + (3 h)", "(((<h d> + h) + (h + 1)) + <3 h>)"),
        ("where(a, b, f()) * sum(n: x[n])", "(where(a, b, f()) * sum(n: x[n]))"),
        ("k[page[b, j // 16], j % 16, (y x)]", "k[page[b, (j // 16)], (j % 16), <y x>]"),
        ("1 + 1.5 + 1e-4 + .5 + 2. + 3E2", "(((((1 + 1.5) + 0.0001) + 0.5) + 2.0) + 300.0)"),
        ("true and false", "(True and False)"),
    ],
)
def test_expressions(text: str, meaning: str) -> None:
    assert shape(expression(text)) == meaning


def test_whole_numbers_are_integers() -> None:
    assert [type(n.value) for n in spanned(expression("f(1, 1.0, 1e3)")) if isinstance(n, s.Number)] == [
        int,
        float,
        float,
    ]


# places


def test_spans_are_what_was_written() -> None:
    (program,) = parse(
        Source("test", "attention a {\n  core o[b,i] {\n    map  2 * (x + y[(h d)]) < not_ # why\n  }\n}\n")
    )
    texts = [node.span.text() for node in spanned(program) if node.span.line == 3]
    assert texts == [
        "map  2 * (x + y[(h d)]) < not_",
        "2 * (x + y[(h d)]) < not_",
        "2 * (x + y[(h d)])",
        "2",
        "(x + y[(h d)])",
        "x",
        "y[(h d)]",
        "y",
        "(h d)",
        "h",
        "d",
        "not_",
    ]


def test_an_operator_has_a_place() -> None:
    sum_ = expression("a  //  b")
    assert isinstance(sum_, s.Binary) and sum_.op_span.text() == "//"


def test_every_span_begins_and_ends_with_a_word_or_bracket() -> None:
    (program,) = parse(Source("gpt2", GPT2))
    for node in spanned(program):
        assert re.fullmatch(r"[\w(](.*[\w)\]}{])?", node.span.text()), node


def test_a_program_spans_its_lines() -> None:
    (program,) = parse(Source("gpt2", GPT2))
    assert (program.span.line, program.span.column, program.span.end_line, program.span.end_column) == (2, 1, 25, 2)
