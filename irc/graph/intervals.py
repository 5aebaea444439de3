"""The least and the greatest value of an operation on integers, from those of what it is made of: of numbers, or of
expressions that compute them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import TypeVar

End = TypeVar("End")


def through(name: str, parts: Sequence[tuple[End, End]], do: Callable[..., End], zero: End) -> tuple[End, End] | None:
    """The ends of what the operation makes of parts between these ends, where `do(name, …)` is an operation on ends.
    Divisors are positive, and `where` comes without its condition. None for other operations."""
    least, most = partial(do, "min"), partial(do, "max")
    match name, parts:
        case (("add" | "min" | "max"), [(a, b), (c, d)]):
            return do(name, a, c), do(name, b, d)
        case "sub", [(a, b), (c, d)]:
            return do("sub", a, d), do("sub", b, c)
        case "neg", [(a, b)]:
            return do("neg", b), do("neg", a)
        case (("mul" | "floordiv"), [(a, b), (c, d)]):
            corners = [do(name, x, y) for x in (a, b) for y in (c, d)]
            return reduce(least, corners), reduce(most, corners)
        case "abs", [(a, b)]:
            return most(most(a, do("neg", b)), zero), most(do("abs", a), do("abs", b))
        case "clamp", [(a, b), (c, d), (e, f)]:
            return least(most(a, c), e), least(most(b, d), f)
        case "where", [(a, b), (c, d)]:
            return least(a, c), most(b, d)
        case "flat", _:
            low = high = zero
            for (a, b), (n, m) in zip(parts[::2], parts[1::2], strict=True):
                low, high = do("add", do("mul", low, n), a), do("add", do("mul", high, m), b)
            return low, high
    return None
