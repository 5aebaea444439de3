"""CUDA kernels on a machine without a GPU: run, and watched for what goes wrong on one only now and then."""

from irc.runtime.emulator.driver import Module, build, guarded
from irc.runtime.emulator.findings import EmulatorError, Finding, Place

__all__ = ["EmulatorError", "Finding", "Module", "Place", "build", "guarded"]
