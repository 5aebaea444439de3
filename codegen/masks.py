"""What a mask leaves to a kernel's loops, printed."""

from __future__ import annotations

from dataclasses import dataclass

from irc.codegen.kernel import TileKernel
from irc.codegen.positions import extent
from irc.codegen.printer import print_scalar


@dataclass(frozen=True, slots=True)
class SpanText:
    first: str
    last: str


def span_texts(kernel: TileKernel) -> tuple[SpanText, ...]:
    """The spans of the walked side; one around everything where the mask bounds nothing."""
    if kernel.spans is None:
        walked = kernel.rows if kernel.order == "columns" else kernel.columns
        return (SpanText("0", f"{extent(walked)} - 1"),)
    return tuple(SpanText(print_scalar(s.first), print_scalar(s.last)) for s in kernel.spans)
