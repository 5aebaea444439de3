"""python -m benchmarks: irc beside PyTorch's fused attention (SDPA), f32, forward and backward, full and causal.

Prints one line a case: useful GFLOP/s of both and irc's speed as a multiple of PyTorch's. Needs the extra `peers`.
"""

from __future__ import annotations

import argparse
import os

import numpy as np
import torch

import irc
from benchmarks.measure import medians

SPEC = """
attention core {{
  size B, H, S, D
  input q[B,H,S,D], k[B,H,S,D], v[B,H,S,D]
  core o[b,h,i,d] {{
    score q[b,h,i,c] * k[b,h,j,c]
    scale 1 / sqrt(D)
    {mask}
    softmax j
    matmul v[b,h,j,d]
  }}
  return o
}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--shape", default="1,8,2048,64", help="batch, heads, tokens, width (default 1,8,2048,64)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    b, h, s, d = (int(n) for n in given.shape.split(","))
    torch.set_num_threads(given.threads)
    os.environ["IRC_THREADS"] = str(given.threads)
    rng = np.random.default_rng(0)
    q, k, v, g = (torch.from_numpy(rng.standard_normal((b, h, s, d)).astype(np.float32)) for _ in range(4))
    print(f"(B,H,S,D) = ({given.shape}), f32, {given.threads} threads, median of {given.rounds}; useful GFLOP/s")
    for name, mask in (("full", ""), ("causal", "allow j <= i")):
        program = irc.compile(SPEC.format(mask=mask), sizes={"D": d})
        leaves = [t.clone().requires_grad_() for t in (q, k, v)]
        causal = name == "causal"

        def peer_forward(causal: bool = causal) -> torch.Tensor:
            with torch.no_grad():
                return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

        graph = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=causal)
        run = program.forward(q=q, k=k, v=v)
        distance = (run.outputs["o"] - peer_forward()).norm() / peer_forward().norm()
        assert distance < 5e-6, f"outputs differ by {distance}"
        pairs = s * (s + 1) / 2 if causal else s * s
        for what, products, ours, theirs in (
            ("forward", 2, lambda p=program: p(q=q, k=k, v=v), peer_forward),
            ("backward", 5, lambda r=run: r.backward(o=g),
             lambda o=graph, x=leaves: torch.autograd.grad(o, x, g, retain_graph=True)),
        ):  # fmt: skip
            seconds = medians({"irc": ours, "torch": theirs}, given.rounds)
            flops = 2 * products * b * h * pairs * d
            rate = {n: flops / t / 1e9 for n, t in seconds.items()}
            ratio = seconds["torch"] / seconds["irc"]
            print(f"{name:7} {what:9} irc {rate['irc']:6.1f}   torch {rate['torch']:6.1f}   {ratio:.2f}x")


if __name__ == "__main__":
    main()
