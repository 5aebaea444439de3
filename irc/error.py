"""Everything that irc raises on purpose."""

from __future__ import annotations

from irc.grammar.diagnostic import Diagnostic
from irc.runtime.errors import DeviceError, Error, InputError, ToolchainError

__all__ = ["DeviceError", "Error", "InputError", "SpecError", "SpecWarning", "ToolchainError"]


class SpecWarning(UserWarning):
    """The program text is legal but suspicious; the message is the rendered finding."""


class SpecError(Error):
    """The program text is wrong. `diagnostics` holds every finding, with its place and a way out."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        super().__init__("\n".join(d.render() for d in diagnostics))
        self.diagnostics = diagnostics
