"""Tests against PyTorch, transformers and JAX, which `make test-peers` installs. Without PyTorch none is collected."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path[:0] = [str(EXAMPLES / "minilm"), str(EXAMPLES / "charlm")]

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]
