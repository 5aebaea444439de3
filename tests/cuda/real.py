"""The tests of CUDA on the machine's own device: all of them, then a few under compute-sanitizer, where that is there.

Exits with 3 where there is no device.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import irc
from irc.runtime.cuda import device, nvcc

HERE = Path(__file__).parent
TOOLS = ("memcheck", "racecheck")
WATCHED = "causal or documents or relative_bias or paged_cache"
MISSING = 3  # exit code


def main() -> int:
    try:
        found = device.find()
    except irc.DeviceError as error:
        print(f"no tests on a device: {error}", file=sys.stderr)
        return MISSING
    print(f"on {found.name}, {found.architecture}", flush=True)
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE)]
    failed = subprocess.run(pytest).returncode
    folders = [str(folder / "bin") for folder in nvcc.toolkits()]
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=":".join(folders))
    if sanitizer is None:
        print("compute-sanitizer was not found: nothing ran under it", file=sys.stderr)
        return failed
    few = [*pytest[:-1], str(HERE / "test_device.py"), "-k", f"interpreter and ({WATCHED})"]
    for tool in TOOLS:
        print(f"under {tool}:", flush=True)
        command = [sanitizer, "--tool", tool, "--error-exitcode", "1", "--target-processes", "all", *few]
        failed |= subprocess.run(command).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
