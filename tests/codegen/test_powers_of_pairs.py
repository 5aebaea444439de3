"""What is made of a pair with fewer operations, as kernels print it."""

import irc

TEXT = """attention plain {
  size  B, S, D
  input q[B,S,D], k[B,S,D], v[B,S,D]
  core o[b,i,d] {
    score  q[b,i,c] * k[b,j,c]
    scale  1 / sqrt(D)
    softmax j
    matmul v[b,j,d]
  }
  return o
}
"""


def test_what_two_products_have_in_common_is_multiplied_with_their_sum() -> None:
    source = irc.compile(TEXT, sizes={"D": 8}).source
    made = next(line for line in source.splitlines() if "tile_d_o_score[m][w] = irc::splat" in line)
    assert made.count("tile_o_weight[m][w]") == 1
    assert "(tile_d_o_weight_part__[m][w] + column_" in made
