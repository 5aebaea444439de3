"""CUDA kernels on a machine without a GPU: run, and watched for what goes wrong on one only now and then."""

from irc.runtime.emulator.driver import Module, build, guarded
from irc.runtime.emulator.findings import EmulatorError, Finding, Place
from irc.runtime.emulator.tensor_map import TensorMap

__all__ = ["EmulatorError", "Finding", "Module", "Place", "TensorMap", "build", "guarded"]
