"""irc: a compiler for attention. Start at `irc.compile`.

Names are imported when first used: the rooms below (`irc.grammar`, `irc.runtime`, …) work without the whole house.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irc.calls.program import Program, Run
    from irc.compiler import compile
    from irc.error import DeviceError, Error, InputError, SpecError, SpecWarning, ToolchainError

__all__ = [
    "DeviceError", "Error", "InputError", "Program", "Run", "SpecError", "SpecWarning", "ToolchainError", "compile",
]  # fmt: skip

_HOME = {"compile": "irc.compiler", "Program": "irc.calls.program", "Run": "irc.calls.program"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'irc' has no attribute {name!r}")
    value = getattr(import_module(_HOME.get(name, "irc.error")), name)
    globals()[name] = value
    return value
