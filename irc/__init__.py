"""irc: a compiler for attention. See `irc.compile`."""

from irc.compile import compile
from irc.error import DeviceError, Error, InputError, SpecError, ToolchainError
from irc.program import Program, Run

__all__ = ["DeviceError", "Error", "InputError", "Program", "Run", "SpecError", "ToolchainError", "compile"]
