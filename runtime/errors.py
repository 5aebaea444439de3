"""What a user may catch. Each message stands alone: what came, what was expected, what to do."""

from __future__ import annotations

from typing import Any


class Error(Exception):
    """The root of every error that irc raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """By its message and what else it holds, so that a pool of processes can hand it on: not by calling a class
        that makes the message of something else."""
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[Error], said: tuple[Any, ...]) -> Error:
    return kind.__new__(kind, *said)


class InputError(Error):
    """An argument of a call does not fit the program."""


class ToolchainError(Error):
    """The compiler of the machine is missing, or refused the generated source."""


class DeviceError(Error):
    """The device that was asked for is missing or failed."""
