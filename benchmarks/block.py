"""A whole block beside PyTorch: GPT-2's attention with its projections, (B,S) = (1,1024) and (4,512), 12 heads of 64.

`python -m benchmarks.block [--out FILE] [--threads N] [--seconds S]`

irc compiles `examples/gpt2.attn`; PyTorch has two linear layers around its fused attention, as it comes and under
`torch.compile`. All run in one process, in turns; results are compared first. Milliseconds, medians.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

import irc
from benchmarks.machine import describe
from benchmarks.measure import interleaved

SHAPES = ((1, 1024), (4, 512))
HEADS, WIDTH = 12, 64
FEATURES = HEADS * WIDTH
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
CLOSE = {"f32": 1e-5, "bf16": 2e-2}  # relative to the norm of PyTorch's


def block(x: Any, wqkv: Any, bqkv: Any, wo: Any, bo: Any) -> Any:
    batch, tokens, _ = x.shape
    q, k, v = (x @ wqkv + bqkv).view(batch, tokens, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4)
    o = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return o.transpose(1, 2).reshape(batch, tokens, FEATURES) @ wo + bo


def contestants(shape: tuple[int, int], dtype: str) -> dict[str, dict[str, Callable[[], Any]]]:
    """By pass, what calls each."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((*shape, FEATURES), (FEATURES, 3 * FEATURES), (3 * FEATURES,), (FEATURES, FEATURES), (FEATURES,))
    scales = (1.0, FEATURES**-0.5, 1.0, FEATURES**-0.5, 1.0)
    made = [torch.randn(s, generator=generator) * scale for s, scale in zip(shapes, scales, strict=True)]
    given = [tensor.to(TYPES[dtype]) for tensor in made]
    names = ("x", "Wqkv", "bqkv", "Wo", "bo")
    program = irc.compile(Path(__file__).parent.parent / "examples" / "gpt2.attn", dtype=dtype)
    compiled = torch.compile(block, fullgraph=True)

    def irc_block(*tensors: Any) -> Any:
        return program(**dict(zip(names, tensors, strict=True)))

    calls = {"irc": irc_block, "torch": block, "torch.compile": compiled}
    followed = [tensor.clone().requires_grad_() for tensor in given]
    cotangent = torch.randn((*shape, FEATURES), generator=generator).to(TYPES[dtype])

    def both(call: Callable[..., Any]) -> list[Any]:
        return list(torch.autograd.grad(call(*followed), followed, cotangent))

    def alone(call: Callable[..., Any]) -> list[Any]:
        with torch.no_grad():
            return [call(*given)]

    passes = {"forward": alone, "forward+backward": both}
    for name, run in passes.items():
        wanted = [tensor.double() for tensor in run(block)]
        for got, exact in zip(run(irc_block), wanted, strict=True):
            error = float((got.double() - exact).norm() / exact.norm())
            assert error < CLOSE[dtype], f"{name} {dtype}: {error}"
    return {
        name: {who: (lambda run=run, call=call: run(call)) for who, call in calls.items()}
        for name, run in passes.items()
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, help="write the table to this file too")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--seconds", type=float, default=5.0, help="of each case")
    chosen = options.parse_args()
    os.environ["IRC_THREADS"] = str(chosen.threads)
    torch.set_num_threads(chosen.threads)
    machine = describe()
    told = f"{machine['machine']}, {machine['compiler']}, torch {torch.__version__}, irc {machine['commit']}"
    lines = [
        f"{told}, {date.today()}, `python -m benchmarks.block --threads {chosen.threads} --seconds {chosen.seconds:g}`",
        "",
        "| (B,S) | dtype | pass | irc | torch | torch.compile | fastest of torch / irc |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for shape in SHAPES:
        for dtype in TYPES:
            for name, calls in contestants(shape, dtype).items():
                taken = interleaved(calls, 100, chosen.seconds)
                ms = {who: 1e3 * taken[who].median for who in calls}
                ratio = min(ms["torch"], ms["torch.compile"]) / ms["irc"]
                numbers = " | ".join(f"{value:.1f}" for value in ms.values())
                lines.append(f"| ({shape[0]},{shape[1]}) | {dtype} | {name} | {numbers} | {ratio:.2f} |")
                print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if chosen.out:
        chosen.out.write_text(text)


if __name__ == "__main__":
    main()
