"""Programs under `torch.compile` and `torch.export`: an operator each way, and the bits of the eager call."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import irc
from irc.calls import handles
from irc.error import Error, InputError
from tests.peers.test_autograd import CAUSAL, ROOT, SPEC
from tests.test_examples import FOLDER, arguments

KINDS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
Tensors = list[torch.Tensor]


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch.compiler.reset()


class Graphs:
    """A backend that keeps the graphs it is given, and runs them as `aot_eager` does."""

    def __init__(self) -> None:
        self.taken: list[torch.fx.GraphModule] = []

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Any:
        self.taken.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    @property
    def operators(self) -> list[str]:
        nodes = [node for graph in self.taken for node in graph.graph.nodes if node.op == "call_function"]
        return [str(node.target) for node in nodes if str(node.target).startswith("irc.")]


def compiled(call: Callable[..., Any], backend: Any = "aot_eager") -> Callable[..., Any]:
    return torch.compile(call, fullgraph=True, backend=backend)


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, requires_grad=True)


def three(tokens: int = 17, dtype: torch.dtype = torch.float32) -> Tensors:
    """Their heads and tokens have changed places: none is contiguous."""
    return [torch.randn(2, tokens, 3, 8, dtype=dtype).transpose(1, 2).requires_grad_() for _ in range(3)]


def results(call: Callable[..., Any], *given: torch.Tensor) -> Tensors:
    """What a call gives, and the gradients of what requires them, for cotangents drawn from the same seed."""
    outputs = call(*given)
    outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
    seeded = torch.Generator().manual_seed(1)
    followed = [o for o in outputs if o.requires_grad]
    cotangents = [torch.randn(o.shape, generator=seeded).to(o.dtype) for o in followed]
    wanted = [t for t in given if t.requires_grad]
    return outputs + list(torch.autograd.grad(followed, wanted, cotangents) if followed else [])


def same(call: Callable[..., Any], *given: torch.Tensor, backend: Any = "aot_eager") -> None:
    """Eager and compiled have the same bits."""
    for ours, theirs in zip(results(compiled(call, backend), *given), results(call, *given), strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


def test_the_lines_of_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n([^`]*torch\.compile.*?)```", text, re.DOTALL)
    q, k, v = three()
    given = {"torch": torch, "program": irc.compile(CAUSAL), "q": q, "k": k, "v": v}
    exec(code, given)
    expected = torch.autograd.grad(given["loss"](q, k, v), q)[0]
    assert torch.equal(q.grad, expected)


@pytest.mark.parametrize("dtype", list(KINDS))
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_the_bits_are_those_of_the_eager_call(dtype: str, backend: str) -> None:
    program = irc.compile(CAUSAL, dtype=dtype)
    same(lambda q, k, v: program(q=q, k=k, v=v), *three(dtype=KINDS[dtype]), backend=backend)


@pytest.mark.parametrize("name", ["gpt2", "grouped_heads", "documents", "neighbourhood", "variants/statistics"])
def test_examples_keep_their_bits(name: str) -> None:
    """Projections are kept for the backward run, in the layouts that the forward run gave them."""
    path = FOLDER / f"{name}.attn"
    program = irc.compile(path, sizes={"Y": 5, "X": 6} if name == "neighbourhood" else {})
    arrays = {n: torch.from_numpy(np.array(a)) for n, a in arguments(path, np.random.default_rng(3)).items()}
    numbers = {n: t.item() for n, t in arrays.items() if t.ndim == 0}
    names = [n for n in arrays if n not in numbers]
    given = [arrays[n].requires_grad_(n in program.differentiated) for n in names]
    same(lambda *tensors: program(**dict(zip(names, tensors, strict=True)), **numbers), *given)


def test_numbers_integers_and_results_without_a_gradient() -> None:
    program = irc.compile(SPEC)
    doc = torch.arange(17).expand(2, -1) // 7
    q, k, v, slope = *three(), drawn(3)

    def call(q: Any, k: Any, v: Any, slope: Any, cap: Any) -> Any:
        return program(q=q, k=k, v=v, slope=slope, doc=doc, cap=cap)

    for cap in (3.0, 2, torch.tensor(2.5)):
        same(lambda *given, cap=cap: call(*given, cap), q, k, v, slope)
    follow = compiled(call)
    for cap in (3.0, 4.0, torch.tensor(3.0)):
        assert torch.equal(follow(q, k, v, slope, cap)[0], call(q, k, v, slope, cap)[0])
    assert not follow(q, k, v, slope, 3.0)[1].requires_grad
    window = irc.compile(FOLDER / "softcap_window.attn")
    graphs = Graphs()
    follow = compiled(lambda q, k, v, window_: window(q=q, k=k, v=v, window=window_, cap=30.0)[0], graphs)
    for size in (3, 4, 5, 6):
        assert torch.equal(follow(q, k, v, size), window(q=q, k=k, v=v, window=size, cap=30.0)[0])
    assert len(graphs.taken) == 2  # the number of the first call, then any


def test_results_that_are_arguments_or_none_of_pytorch() -> None:
    text = """
    attention masked {
      size  B, S, D
      input q[B,S,D], k[B,S,D], m[B,S]: bool
      core o[b,i,d] {
        score  q[b,i,c] * k[b,j,c]
        allow  m[b,j]
        softmax j
        matmul k[b,j,d]
      }
      return o, m, q
    }
    """
    program, m = irc.compile(text), torch.rand(2, 5) < 0.7
    same(lambda q, k: program(q=q, k=k, m=m), drawn(2, 5, 4), drawn(2, 5, 4))
    counts = """
    attention counts {
      size  S
      input n[S]: int
      core o[i] {
        score  n[i] * n[j] * 0.1
        softmax j
        matmul n[j] * 1.0
      }
      return o
    }
    """
    counted = irc.compile(counts)
    with pytest.raises(Exception, match="counts: no argument is a floating tensor"):
        compiled(lambda n: counted(n=n))(torch.arange(5))


@pytest.mark.parametrize("name", ["causal", "gpt2"])
def test_sizes_that_change_compile_once_more_for_all(name: str) -> None:
    path, graphs = FOLDER / f"{name}.attn", Graphs()
    program = irc.compile(path)
    names = [node.name for node in program.graph.inputs]
    follow = compiled(lambda *given: program(**dict(zip(names, given, strict=True))), graphs)
    for tokens in (17, 20, 33, 41):
        arrays = arguments(path, np.random.default_rng(3), {"B": 2, "H": 3, "D": 8, "E": 24, "S": tokens})
        given = [torch.from_numpy(a).requires_grad_() for a in arrays.values()]
        eager = results(lambda *given: program(**dict(zip(names, given, strict=True))), *given)
        for ours, theirs in zip(results(follow, *given), eager, strict=True):
            assert torch.equal(ours, theirs)
    assert len(graphs.taken) == 2
    assert graphs.operators == ["irc.forward"] * 2


def test_two_programs_and_one_twice_in_a_graph() -> None:
    causal, best, graphs = irc.compile(CAUSAL), irc.compile(SPEC), Graphs()
    doc, slope = torch.zeros(2, 17, dtype=torch.int32), drawn(3)

    def call(q: Any, k: Any, v: Any, slope: Any) -> Any:
        o, lse = causal(q=q, k=k, v=v)
        o = best(q=o, k=k * 2, v=v, slope=slope, doc=doc, cap=3.0)[0]
        return causal(q=o, k=k, v=v)[0] + lse[..., None]

    same(call, *three(), slope, backend=graphs)
    assert graphs.operators == ["irc.forward"] * 3


def test_only_what_is_wanted_is_kept_and_differentiated() -> None:
    program = irc.compile(CAUSAL)
    q, k, v = three()
    same(lambda q, k, v: program(q=q, k=k, v=v)[1], q, k.detach(), v)
    with torch.no_grad():
        same(lambda q, k, v: program(q=q, k=k, v=v), q, k, v)
    with torch.inference_mode():
        same(lambda q, k, v: program(q=q, k=k, v=v), q, k, v)
    graphs = Graphs()
    compiled(lambda q, k, v: program(q=q, k=k, v=v), graphs)(*(t.detach() for t in (q, k, v)))
    (node,) = (n for n in graphs.taken[0].graph.nodes if str(n.target) == "irc.forward")
    assert node.args[3] is False


def test_what_checkpoints_compute_again() -> None:
    program = irc.compile(CAUSAL)

    def call(q: Any, k: Any, v: Any) -> Any:
        return checkpoint(lambda q, k, v: program(q=q * 3, k=k, v=v)[0] * 5, q, k, v, use_reentrant=False)

    same(call, *three(), backend="inductor")


@pytest.mark.parametrize("changed", ["argument", "result"])
def test_what_is_read_again_may_not_have_changed(changed: str) -> None:
    program = irc.compile(CAUSAL)
    q, k, v = three()

    def call(q: Any, k: Any, v: Any, change: bool) -> Any:
        k = k * 1
        o, lse = program(q=q, k=k, v=v)
        if change:
            with torch.no_grad():
                (k if changed == "argument" else lse).add_(1)
        return o, lse

    with pytest.raises(Exception, match="modified by an inplace operation"):
        compiled(call)(q, k, v, True)
    o, lse = compiled(lambda q, k, v: program(q=q, k=k, v=v))(q, k, v)
    with torch.no_grad():
        (k if changed == "argument" else lse).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        o.sum().backward()


def test_a_graph_that_is_run_backward_twice_and_one_whose_forward_run_is_forgotten() -> None:
    program = irc.compile(FOLDER / "gpt2.attn")
    arrays = arguments(FOLDER / "gpt2.attn", np.random.default_rng(3))
    given = {name: torch.from_numpy(array).requires_grad_() for name, array in arrays.items()}
    follow = compiled(lambda given: program(**given), "inductor")
    for _ in range(2):
        loss = follow(given).square().sum()
        once = torch.autograd.grad(loss, list(given.values()), retain_graph=True)
        program._prepared.clear()
        program._latest_call = None
        for a, b in zip(once, torch.autograd.grad(loss, list(given.values())), strict=True):
            assert torch.equal(a, b)


def test_the_operators_say_what_they_do() -> None:
    program = irc.compile(CAUSAL)
    compiled(lambda q, k, v: program(q=q, k=k, v=v))(*three())
    q, k, v = three()
    torch.library.opcheck(torch.ops.irc.forward.default, (program.handle, ["q", "k", "v"], [q, k, v], True, None))
    made = torch.ops.irc.forward(program.handle, ["q", "k", "v"], [q, k, v], True, None)
    made = [tensor.detach() for tensor in made]
    given = [t.detach() for t in (q, k, v)]
    args = program.handle, ["q", "k", "v"], given, made, [torch.ones_like(made[0]), None], ["q", "v"], None
    torch.library.opcheck(torch.ops.irc.backward.default, args)
    args = program.handle, ["q", "k", "v"], given, ["k"], [torch.ones_like(k)]
    torch.library.opcheck(torch.ops.irc.jvp.default, (*args, None))
    torch.library.opcheck(torch.ops.irc.hvp.default, (*args, [torch.ones_like(made[0]), None], None))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda q, k, v: {"q": q, "k": k.double(), "v": v}, "k: expected f32, got f64"),
        (lambda q, k, v: {"q": q, "k": k[:, :1], "v": v}, r"k axis 1: expected H = 3 \(from q axis 1\), got 1"),
        (lambda q, k, v: {"q": q, "k": k}, "v: missing; causal takes q, k, v"),
        (lambda q, k, v: {"q": q, "k": k, "v": v, "w": v}, "w: unknown; causal takes q, k, v"),
        (lambda q, k, v: {"q": q, "k": k, "v": 1.0}, r"v: expected 4 axes \[B, H, S, D\], got 0"),
        (
            lambda q, k, v: {"q": q, "k": k, "v": None},
            "v: expected a tensor or a number in compiled code, got NoneType",
        ),
        (lambda q, k, v: {"q": q.bfloat16(), "k": k, "v": v}, "q: expected f32, got bf16"),
    ],
)
def test_what_does_not_fit_is_named_while_it_is_traced(change: Callable[..., Any], text: str) -> None:
    program = irc.compile(CAUSAL)
    with pytest.raises(Exception, match=f"InputError.*{text}"):
        compiled(lambda q, k, v: program(**change(q, k, v)))(*three())
    with pytest.raises(Exception, match=r"q: expected|expected arguments by name, q=\.\.\., k=\.\.\., v=\.\.\."):
        compiled(lambda q, k, v: program(q, k, v))(*three())


@pytest.mark.parametrize(
    "call",
    [
        lambda program, x: program.forward(q=x, k=x, v=x).outputs["o"],
        lambda program, x: program.jvp({"q": x, "k": x, "v": x}, {"q": x})[0]["o"],
        lambda program, x: irc.compile(CAUSAL)(q=x, k=x, v=x)[0],
    ],
)
def test_what_runs_outside_of_graphs_says_so(call: Callable[..., Any]) -> None:
    program, x = irc.compile(CAUSAL), three()[0].detach()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"irc: program\(\.\.\.\) is an operator of graphs"):
        torch.compile(lambda x: call(program, x), fullgraph=True, backend="eager")(x)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(lambda x: call(program, x), backend="eager")(x), call(program, x))


def test_what_depends_on_entries_is_checked_when_it_runs() -> None:
    window = irc.compile(FOLDER / "softcap_window.attn")
    follow = compiled(lambda q, k, v, size: window(q=q, k=k, v=v, window=size, cap=30.0))
    with pytest.raises(InputError, match="assumes window >= 1"):
        follow(*three(), torch.tensor(0))
    program, doc = irc.compile(SPEC), torch.zeros(2, 17, dtype=torch.int32)
    q, k, v, slope = *three(), drawn(3)
    with pytest.raises(Exception, match="cap: requires a gradient, which a `scalar` has not"):
        compiled(lambda cap: program(q=q, k=k, v=v, slope=slope, doc=doc, cap=cap))(drawn())


def test_another_program_is_another_graph() -> None:
    """Of one handle are programs that compute the same: a graph serves them all, whoever is still there."""
    q, k, v = three()

    def call(program: irc.Program) -> Any:
        return program(q=q, k=k, v=v)[0]

    follow, program = compiled(call), irc.compile(CAUSAL)
    other = irc.compile(CAUSAL.read_text().replace("j <= i", "i <= j").replace("ensure causal,", "ensure"))
    assert program.handle != other.handle
    for each in (program, other, program):
        assert torch.equal(follow(each), call(each))
    twin = irc.compile(CAUSAL)
    assert twin.handle == program.handle != irc.compile(CAUSAL, dtype="f64").handle
    wanted = call(program)
    del program, each
    gc.collect()
    assert torch.equal(follow(twin), wanted)
    with pytest.raises(InputError, match="nothing: a graph calls this program, which this process has not compiled"):
        handles.found("nothing")


def test_transforms_of_torch_func() -> None:
    program = irc.compile(CAUSAL)
    q, k, v = three()

    def loss(q: torch.Tensor) -> torch.Tensor:
        return program(q=q, k=k.detach(), v=v.detach())[0].square().sum()

    wanted = torch.autograd.grad(loss(q), q)[0]
    q = q.detach()
    assert torch.equal(torch.func.grad(loss)(q), wanted)
    assert torch.equal(torch.func.vjp(loss, q)[1](torch.tensor(1.0))[0], wanted)
    assert torch.equal(torch.vmap(torch.func.grad(loss))(q[None])[0], wanted)
    for transform in (torch.func.grad(loss), lambda q: torch.func.jvp(loss, (q,), (q,))):
        with pytest.raises(Exception, match=r"torch\.func's transforms do not pass through a program that is compiled"):
            compiled(transform)(q)
        assert torch.equal(torch.compile(transform, backend="eager")(q)[0], transform(q)[0])


def test_what_the_operators_leave_to_calls() -> None:
    program = irc.compile(CAUSAL)
    q, k, v = three()
    given = program.handle, ["q", "k", "v"], [q, k, v]
    made = torch.ops.irc.forward(*given, True, None)
    cotangents = [torch.ones_like(made[0]), None]
    (gradient,) = torch.ops.irc.backward(*given, [m.detach() for m in made], cotangents, ["q"], None)
    (moved, _) = torch.ops.irc.jvp(*given, ["q"], [torch.ones_like(q)], None)
    products = torch.ops.irc.hvp(*given, ["q"], [torch.ones_like(q)], cotangents, None)
    for derivative in (gradient, moved, *products):
        with pytest.raises(Error, match=r"gradients of derivatives .* do through program"):
            derivative.sum().backward(retain_graph=True)


def test_batches_of_operators() -> None:
    program = irc.compile(CAUSAL)
    q, k, v = (t.detach() for t in three())
    queries = torch.stack([q, q.sin()], 1)

    def gradient(q: torch.Tensor) -> torch.Tensor:
        return torch.func.grad(lambda q: program(q=q, k=k, v=v)[0].square().sum())(q)

    wanted = torch.stack([gradient(q), gradient(q.sin())])
    assert torch.equal(torch.vmap(make_fx(gradient)(q), in_dims=1)(queries), wanted)


def test_batches_of_gradients() -> None:
    program = irc.compile(CAUSAL)
    q, k, v = (t.detach() for t in three())
    q.requires_grad_()
    cotangents = torch.stack([q.sin(), q.cos()]).detach()

    def call(q: torch.Tensor) -> torch.Tensor:
        return program(q=q, k=k, v=v)[0]

    wanted = [torch.autograd.grad(call(q), q, cotangent)[0] for cotangent in cotangents]
    (found,) = torch.autograd.grad(compiled(call)(q), q, cotangents, is_grads_batched=True)
    assert torch.equal(found, torch.stack(wanted))


class Attention(torch.nn.Module):
    def __init__(self, program: irc.Program) -> None:
        super().__init__()
        self.program = program

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return self.program(q=q, k=k, v=v)[0]


@pytest.mark.parametrize("strict", [False, True])
def test_exported(tmp_path: Path, strict: bool) -> None:
    attention = Attention(irc.compile(CAUSAL))
    tokens = {2: torch.export.Dim.DYNAMIC}
    given = tuple(three())
    exported = torch.export.export(attention, given, dynamic_shapes=(tokens,) * 3, strict=strict)
    torch.export.save(exported, tmp_path / "attention.pt2")
    again = torch.export.load(tmp_path / "attention.pt2").module()
    for other in (given, tuple(three(23))):
        assert torch.equal(again(*other), attention(*other))
