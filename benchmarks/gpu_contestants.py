"""Who takes part in `benchmarks.gpu`: irc, each backend of PyTorch's SDPA, and FlexAttention."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

import irc
from benchmarks.gpu import CAP, DOCUMENTS, WINDOW, Case
from irc.error import DeviceError
from irc.runtime.cuda import device, nvcc

Work = Callable[[], object]  # what is timed
Prepare = Callable[[], Work]  # makes it ready, untimed
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
DEVICE = "cuda"
TOLERANCE = 3e-2  # of outputs, relative to their norm: bf16
WARM = 2  # calls before the first that counts


def check() -> None:
    """Raises DeviceError where PyTorch has no device."""
    if not torch.cuda.is_available():
        raise DeviceError(f"PyTorch {torch.__version__} finds no CUDA device")


def versions() -> str:
    of_torch = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    major, minor = divmod(device.driver().get_driver_version(), 1000)
    return (
        f"{nvcc.find().version}, pycuda {version('pycuda')}, driver for CUDA {major}.{minor // 10}, "
        f"PyTorch {torch.__version__} with {of_torch}"
    )


def peak() -> float:
    """TFLOP/s of a large bf16 matrix product."""
    n = 8192
    a, b = (torch.randn(n, n, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    return 2 * n**3 / statistics.median(_times({"": lambda: lambda: a @ b}, 20)[""]) / 1e9


def measure(case: Case, which: str, rounds: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Milliseconds of each contestant in each round; why others did not take part."""
    torch.manual_seed(0)
    tensors = _tensors(case)
    ready: dict[str, Prepare] = {}
    refused: dict[str, str] = {}
    expected: torch.Tensor | None = None
    for name, make in _contestants(case, tensors).items():
        try:
            output, prepare = make(which)
            for _ in range(WARM):
                prepare()()
            torch.cuda.synchronize()
        except (RuntimeError, irc.Error, NotImplementedError) as error:  # out of memory among them
            refused[name] = str(error).strip().splitlines()[0][:160]
            torch.cuda.empty_cache()
            continue
        expected = output if expected is None else expected
        error = float((output.float() - expected.float()).norm() / expected.float().norm())
        if error > TOLERANCE:
            refused[name] = f"differs from {next(iter(ready))} by {error:.1e}"
        else:
            ready[name] = prepare
    return _times(ready, rounds), refused


def _times(ready: dict[str, Prepare], rounds: int) -> dict[str, list[float]]:
    """Milliseconds between two events of the device, each contestant once a round, in an order that changes."""
    found: dict[str, list[float]] = {name: [] for name in ready}
    names = list(ready)
    for n in range(rounds):
        for name in names[n % len(names) :] + names[: n % len(names)]:
            work = ready[name]()
            torch.cuda.synchronize()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            end.synchronize()
            found[name].append(begin.elapsed_time(end))
    return found


def _tensors(case: Case) -> dict[str, torch.Tensor]:
    """Arguments of the program, by name."""
    batch, heads, length, width = case.shape
    made = {name: torch.randn(case.shape, device=DEVICE, dtype=torch.bfloat16) for name in "kv"}
    made["q"] = torch.randn((batch, heads, case.queries, width), device=DEVICE, dtype=torch.bfloat16)
    if case.variant == "documents":
        document = torch.arange(length, device=DEVICE, dtype=torch.int32) // (length // DOCUMENTS)
        made["doc"] = document.expand(batch, length).contiguous()
    if case.variant == "alibi":
        slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1, device=DEVICE) / heads)
        made["slope"] = slopes.to(torch.bfloat16)
    if case.variant == "learnable bias":
        made["T"] = torch.randn((heads, 2 * length - 1), device=DEVICE, dtype=torch.bfloat16)
    return made


Make = Callable[[str], tuple[torch.Tensor, Prepare]]


def _contestants(case: Case, tensors: dict[str, torch.Tensor]) -> dict[str, Make]:
    found: dict[str, Make] = {"irc": lambda which: _irc(case, tensors, which)}
    for name, backend in BACKENDS.items():
        found[name] = lambda which, backend=backend: _torch(_sdpa(case, backend), tensors, which)  # type: ignore[misc]
    found["flex"] = lambda which: _torch(_flex(case, tensors), tensors, which)
    return found


def _irc(case: Case, tensors: dict[str, Any], which: str) -> tuple[torch.Tensor, Prepare]:
    program = irc.compile(case.text, dtype="bf16", target="cuda")
    if "doc" in tensors:  # an assumption of it is checked at each call: on the host, without waiting for the device
        tensors = {**tensors, "doc": tensors["doc"].cpu().numpy()}
    output = program(**tensors)
    if which == "forward":
        return output, lambda: lambda: program(**tensors)
    cotangent = torch.ones_like(output)

    def prepare() -> Work:
        run = program.forward(**tensors)
        return lambda: run.backward(o=cotangent)

    return output, prepare


def _torch(
    attend: Callable[[dict[str, torch.Tensor]], torch.Tensor], tensors: dict[str, torch.Tensor], which: str
) -> tuple[torch.Tensor, Prepare]:
    with torch.no_grad():
        output = attend(tensors)
    if which == "forward":

        def forward() -> torch.Tensor:
            with torch.no_grad():
                return attend(tensors)

        return output, lambda: forward
    leaves = {n: t.detach().requires_grad_() for n, t in tensors.items() if n in ("q", "k", "v", "T")}
    result, cotangent = attend({**tensors, **leaves}), torch.ones_like(output)
    backward = lambda: torch.autograd.grad(result, list(leaves.values()), cotangent, retain_graph=True)  # noqa: E731
    return output, lambda: backward


def _sdpa(case: Case, backend: SDPBackend) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
    if case.variant == "soft cap":
        raise NotImplementedError("scaled_dot_product_attention has no soft cap")

    def attend(t: dict[str, torch.Tensor]) -> torch.Tensor:
        with sdpa_kernel(backend):
            if case.variant in ("full", "causal", "decode"):
                return scaled_dot_product_attention(t["q"], t["k"], t["v"], is_causal=case.variant == "causal")
            return scaled_dot_product_attention(t["q"], t["k"], t["v"], attn_mask=_mask(case, t))

    return attend


def _mask(case: Case, t: dict[str, torch.Tensor]) -> torch.Tensor:
    """What SDPA is given of size queries × keys, made in the call: it is part of the work."""
    i = torch.arange(case.length, device=DEVICE)[:, None]
    j = torch.arange(case.length, device=DEVICE)[None]
    match case.variant:
        case "window":
            return (j <= i) & (j > i - WINDOW)
        case "documents":
            return (t["doc"][:, None, :, None] == t["doc"][:, None, None, :]) & (j <= i)
        case "alibi":
            return (t["slope"][:, None, None] * (j - i)).masked_fill(j > i, -torch.inf)[None]
        case _:
            return t["T"][:, i - j + case.length - 1][None]


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=False)


def _flex(case: Case, tensors: dict[str, torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
    masks: dict[str, Callable[..., Any] | None] = {
        "full": None,
        "learnable bias": None,
        "decode": None,
        "window": lambda b, h, i, j: (j <= i) & (j > i - WINDOW),
        "documents": lambda b, h, i, j: (tensors["doc"][b, i] == tensors["doc"][b, j]) & (j <= i),
    }
    mask = masks.get(case.variant, lambda b, h, i, j: j <= i)
    batch = case.shape[0] if case.variant == "documents" else None
    block = create_block_mask(mask, batch, None, case.length, case.length, device=DEVICE) if mask is not None else None

    def attend(t: dict[str, torch.Tensor]) -> torch.Tensor:
        scores: dict[str, Callable[..., Any]] = {
            "alibi": lambda score, b, h, i, j: score + t["slope"][h] * (j - i),
            "soft cap": lambda score, b, h, i, j: CAP * torch.tanh(score / CAP),
            "learnable bias": lambda score, b, h, i, j: score + t["T"][h, i - j + case.length - 1],
        }
        made: torch.Tensor = _compiled()(t["q"], t["k"], t["v"], score_mod=scores.get(case.variant), block_mask=block)
        return made

    return attend
