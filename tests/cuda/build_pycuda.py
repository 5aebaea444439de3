"""Installs pycuda, of which PyPI has the source alone, into the environment that runs this: against CUDA's headers,
with no need of NVIDIA's driver. It takes two to three minutes, once. With a folder as its argument, downloads the
source into it, for where there is no network."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from irc.runtime import toolchain
from irc.runtime.cuda import nvcc
from irc.runtime.errors import ToolchainError

VERSION = "2026.1"


def main() -> None:
    kept = sys.argv[1:]
    if not kept and importlib.util.find_spec("pycuda") is not None:
        return
    toolkit = next((folder for folder in nvcc.toolkits() if (folder / "include" / "cuda.h").exists()), None)
    if toolkit is None:
        sys.exit("pycuda cannot be built: there is no include/cuda.h in a CUDA toolkit; name its folder in CUDA_HOME")
    if not kept:
        print(f"building pycuda {VERSION} with {toolkit} (two to three minutes)", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        try:
            _stub(home / "libcuda.so")
        except ToolchainError as error:
            sys.exit(f"pycuda cannot be built: {error}")
        settings = {"CUDA_ROOT": str(toolkit), "CUDA_ENABLE_CURAND": False, "CUDADRV_LIB_DIR": [str(home)]}
        lines = [f"{name} = {value!r}\n" for name, value in settings.items()]
        (home / ".aksetup-defaults.py").write_text("".join(lines), encoding="utf-8")  # where its build looks: HOME
        pip = [sys.executable, "-m", "pip"]
        cache = subprocess.run([*pip, "cache", "dir"], capture_output=True, text=True).stdout.strip()
        environment = {**os.environ, "HOME": folder, "PIP_CACHE_DIR": cache, "LDFLAGS": "-Wl,--no-as-needed"}
        own = Path.home() / ".config" / "pip" / "pip.conf"
        if own.exists():
            environment.setdefault("PIP_CONFIG_FILE", str(own))
        what = ["download", "--dest", *kept] if kept else ["install"]
        command = [*pip, *what, "--no-deps", "--no-binary=pycuda", f"pycuda=={VERSION}"]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\npycuda {VERSION} could not be built, which the tests of CUDA need: see above")


def _stub(path: Path) -> None:
    """A library to link with, which is named as the driver's; what is in it, the driver has when it is loaded."""
    flags = ("-shared", "-fPIC", "-x", "c++", "/dev/null", "-Wl,-soname,libcuda.so.1", "-o", str(path))
    done = toolchain.start((*toolchain.find().command, *flags))
    if done.returncode != 0:
        raise ToolchainError(done.stderr)


if __name__ == "__main__":
    main()
