"""How the arguments of a call are taken, worked out once for their layouts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from irc.codegen.kernel import Storage
from irc.error import InputError
from irc.runtime.arrays import Array, address
from irc.runtime.device import Device
from irc.runtime.execute import Tensors


class Taking:
    """How arguments of certain layouts are taken: of those that kernels alone read, and read where they lie, the
    addresses are enough; others become arrays.

    given: the arguments as they came; looked: as `look` answered; taken: as arrays; whole: those wanted as arrays.
    """

    def __init__(
        self, storages: Mapping[str, Storage], given: Mapping[str, Any], looked: Tensors, taken: Mapping[str, Array],
        whole: Collection[str], device: Device,
    ) -> None:  # fmt: skip
        self.device = device
        theirs = [name for name in taken if looked.arrays[name] is given[name]]
        moved = [name for name in theirs if address(taken[name]) != looked.places[name]]
        self._takes = {name: storages[name] for name in theirs if name in whole or name in moved}
        self._direct = {name: storages[name] for name in theirs if name not in self._takes}
        self.needed = bool(self._takes)  # whether `take` has anything to do
        foreign = [name for name in self._direct if not isinstance(given[name], np.ndarray)]
        self._foreign = {name: device.look(name, given[name], storages[name])[0] for name in foreign}

    def take(self, tensors: Tensors) -> None:
        """What has to be an array becomes one. Raises InputError for integers that do not fit."""
        for name, storage in self._takes.items():
            tensors.arrays[name] = array = self.device.take(name, tensors.arrays[name], storage)
            tensors.places[name] = address(array)

    def look_again(self, tensors: Tensors) -> None:
        """Other libraries may give a tensor new memory. Raises InputError where that has another layout."""
        for name, layout in self._foreign.items():
            if isinstance(tensors.arrays[name], np.ndarray):  # a view, which holds the memory of the forward run
                continue
            found, _, tensors.places[name] = self.device.look(name, tensors.arrays[name], self._direct[name])
            if found != layout:
                raise InputError(f"{name}: its element type or its layout is not that of the forward run any more")

    @contextmanager
    def whole(self, tensors: Tensors) -> Iterator[None]:
        """All are arrays meanwhile, which the first run of a plan looks at."""
        given = {name: tensors.arrays[name] for name in self._direct}
        for name, storage in self._direct.items():
            tensors.arrays[name] = self.device.take(name, given[name], storage)
        yield
        tensors.arrays |= given
