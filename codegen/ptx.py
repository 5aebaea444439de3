"""The head of every CUDA source: the wrappers of PTX, with products of the widths that its kernels use."""

from __future__ import annotations

from collections.abc import Collection

from irc.codegen.render import TEMPLATES, environment


def header(columns: Collection[int] = ()) -> str:
    """`ptx.cuh`, and `wgmma` of 64 rows for each number of columns: multiples of 8 from 8 to 256."""
    wrong = [n for n in columns if n % 8 or not 8 <= n <= 256]
    if wrong:
        raise ValueError(f"wgmma of {wrong[0]} columns: expected a multiple of 8 from 8 to 256")
    text = (TEMPLATES / "cuda" / "ptx.cuh").read_text(encoding="utf-8")
    if not columns:
        return text
    return text + environment().get_template("cuda/wgmma.cuh.j2").render(columns=sorted(columns)) + "\n"
