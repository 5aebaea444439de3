"""What a user may catch. Each message stands alone: what came, what was expected, what to do."""

from __future__ import annotations


class Error(Exception):
    """The root of every error that irc raises on purpose."""


class InputError(Error):
    """An argument of a call does not fit the program."""


class ToolchainError(Error):
    """The compiler of the machine is missing, or refused the generated source."""


class DeviceError(Error):
    """The device that was asked for is missing or failed."""
