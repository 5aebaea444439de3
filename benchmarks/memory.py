"""How much more memory a stretch of code held at its height than at its start, as the system counts resident pages."""

from __future__ import annotations

import ctypes
from pathlib import Path

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


class Peak:
    """`with Peak() as peak: …`, then `peak.bytes`; 0 where the system does not tell (it is Linux that does)."""

    bytes = 0.0

    def __enter__(self) -> Peak:
        if RESET.exists():
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
            if trim is not None:
                trim(0)  # what an allocator keeps for later would be taken again unseen
            RESET.write_text("5")  # from now on, the high-water mark is of what follows
            self._start = _status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        if RESET.exists():
            self.bytes = max(0.0, _status("VmHWM") - self._start)


def resident() -> float:
    """Bytes of this process in memory; 0 where the system does not tell."""
    return _status("VmRSS") if STATUS.exists() else 0.0


def _status(name: str) -> float:
    return next(1024.0 * int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(name))
