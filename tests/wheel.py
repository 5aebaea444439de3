"""The wheel, built and installed into an empty environment: it contains `irc` alone, and it runs a program.

python tests/wheel.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAM = """
import numpy as np, irc
random = np.random.default_rng(0)
q, k, v = (random.standard_normal((1, 2, 5, 8)).astype(np.float32) for _ in "qkv")
run = irc.compile("causal.attn").forward(q=q, k=k, v=v)
assert np.array_equal(run.outputs["o"][:, :, 0], v[:, :, 0]), "the first query sees the first key alone"
assert run.backward(o=np.ones_like(v))["q"].shape == q.shape
assert "site-packages" in irc.__file__, irc.__file__
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]  # the wheel from the source archive
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            files = archive.namelist()
        top = {file.split("/")[0] for file in files}
        packages = {entry for entry in top if not entry.endswith(".dist-info")}
        assert packages == {"irc"}, f"the wheel is meant to contain irc alone, not {sorted(packages)}"
        parts = ("grammar/attention.lark", "codegen/templates/", "runtime/cuda/strided.cu")
        missing = [part for part in parts if not any(part in f for f in files)]
        assert not missing, f"the wheel lacks {missing}"

        venv.create(folder / "empty", with_pip=True)
        python = folder / "empty" / "bin" / "python"
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-compile", str(wheel)], check=True)
        (folder / "causal.attn").write_text((ROOT / "examples" / "causal.attn").read_text())
        subprocess.run([str(python), "-c", PROGRAM], check=True, cwd=folder)
        check = [str(folder / "empty" / "bin" / "irc"), "check", "causal.attn"]
        subprocess.run(check, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    print(f"{wheel.name}: {len(files)} files, irc alone; installed, checked and ran causal.attn")


if __name__ == "__main__":
    main()
