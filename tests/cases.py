"""Programs that several tests share: one core with grouped heads, in variations."""

from __future__ import annotations

CORE = """
attention core {{
  size B, H, G, Sq, Sk, D, V
  input q[B,H,Sq,D], k[B,G,Sk,D], v[B,G,Sk,V]
  {declare}
  assume H % G == 0
  core o[b,h,i,d], lse[b,h,i] {{
    align last
    score q[b,h,i,c] * k[b, h // (H // G), j, c]
    scale 1 / sqrt(D)
    {stage}
    softmax j {sink}
    matmul v[b, h // (H // G), j, d]
    {stat}
  }}
  return o, lse {returned}
}}
"""

CASES: dict[str, dict[str, str]] = {
    "full": {},
    "causal": {"stage": "allow j <= pos(i)"},
    "empty rows": {"stage": "allow j > pos(i) + 1"},
    "bias": {"declare": "param t[H,Sq,Sk]", "stage": "bias t[h,i,j]"},
    "table": {"declare": "param t[H, (Sq + Sk)]", "stage": "bias t[h, i - j + Sk]\n allow j <= pos(i)"},
    "sums": {"declare": "param t[H, (Sq + Sk)]", "stage": "bias t[h, i + j]\n allow j <= pos(i)"},
    "soft cap": {"declare": "param cap", "stage": "map cap * tanh(score / cap)"},
    "slopes": {"declare": "param slope[H]", "stage": "bias slope[h] * (j - pos(i))"},
    "sink": {"declare": "param s[H]", "sink": "with s[h]", "stage": "allow j <= pos(i)"},
    "max": {"stat": "stat m[b,h,i] = max", "returned": ", m"},
    "entropy": {"stat": "stat e[b,h,i] = entropy", "returned": ", e", "stage": "allow j <= pos(i)"},
}
SIZES = {"B": 2, "H": 4, "G": 2, "Sq": 3, "Sk": 5, "D": 3, "V": 2}


def text(name: str) -> str:
    """The program of that name."""
    holes = dict.fromkeys(("declare", "stage", "sink", "stat", "returned"), "") | CASES[name]
    return CORE.format(**holes)
