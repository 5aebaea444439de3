/* Causal attention from C: the kernel of examples/causal.attn, compiled for a head size of 16, and a plain loop beside it.
 *
 *   irc compile examples/causal.attn --size D=16 -o out/causal
 *   cc examples/c/causal.c -Iout/causal -Lout/causal -lcausal -Wl,-rpath,$PWD/out/causal -lm -o out/causal/demo
 *   out/causal/demo
 */
#include <causal.h>
#include <math.h>
#include <stdio.h>

enum { B = 2, H = 3, S = 37, D = 16 };

static float q[B][H][S][D], k[B][H][S][D], v[B][H][S][D], o[B][H][S][D], lse[B][H][S];

/* Numbers in [-1, 1) that look random and are the same everywhere. */
static float next(void) {
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

/* The largest difference between row i of the kernel's output and the formula, in double precision. */
static double difference(int b, int h, int i) {
    double weight[S], total = 0, largest = 0;
    for (int j = 0; j <= i; j++) {
        double score = 0;
        for (int c = 0; c < D; c++) score += (double)q[b][h][i][c] * k[b][h][j][c];
        total += weight[j] = exp(score / sqrt((double)D));
    }
    for (int d = 0; d < D; d++) {
        double expected = 0;
        for (int j = 0; j <= i; j++) expected += weight[j] / total * v[b][h][j][d];
        largest = fmax(largest, fabs(expected - o[b][h][i][d]));
    }
    return fmax(largest, fabs(log(total) - lse[b][h][i]));
}

int main(void) {
    float *inputs[] = {&q[0][0][0][0], &k[0][0][0][0], &v[0][0][0][0]};
    for (int n = 0; n < 3; n++)
        for (int e = 0; e < B * H * S * D; e++) inputs[n][e] = next();

    /* The order of tensors and sizes is the one that causal.h lists. Strides are in elements. */
    const int64_t four[] = {H * S * D, S * D, D, 1}, three[] = {H * S, S, 1};
    void *data[] = {k, lse, o, q, v};
    const int64_t *strides[] = {four, three, four, four, four};
    const int64_t sizes[] = {B, H, S};
    causal_lse_o(data, strides, sizes, 2);

    double largest = 0;
    for (int b = 0; b < B; b++)
        for (int h = 0; h < H; h++)
            for (int i = 0; i < S; i++) largest = fmax(largest, difference(b, h, i));
    printf("causal attention of %d x %d x %d x %d: largest difference from the formula %.1e\n", B, H, S, D, largest);
    return largest < 1e-5 ? 0 : 1;
}
