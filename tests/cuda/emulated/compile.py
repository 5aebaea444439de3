"""`nvcc … -o FILE SOURCE`, which leaves a library for the emulator in FILE, and `nvcc --version`."""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    from irc.runtime import emulator
    from irc.runtime.emulator.driver import runtime
    from irc.runtime.errors import ToolchainError

    if "--version" in sys.argv:
        print(f"release of the emulator {runtime()[0]}")
        sys.exit()
    source, output = Path(sys.argv[-1]), Path(sys.argv[sys.argv.index("-o") + 1])
    try:
        shutil.copy(emulator.build(source.read_text(encoding="utf-8"), check=False).path, output)
    except ToolchainError as error:
        sys.exit(str(error))
