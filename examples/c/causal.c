/* Causal attention from C: examples/causal.attn, compiled for a head size of 16, and a plain loop beside it.
 *
 *   irc compile examples/causal.attn --size D=16 -o out/causal
 *   cc examples/c/causal.c -Iout/causal -Lout/causal -lcausal -Wl,-rpath,$PWD/out/causal -lm -o out/causal/demo
 *   out/causal/demo
 */
#include <causal.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { B = 2, H = 3, S = 37, D = 16, THREADS = 2 };

static float q[B * H * S * D], k[B * H * S * D], v[B * H * S * D], o[B * H * S * D], lse[B * H * S];

/* Numbers in [-1, 1) that look random and are the same everywhere. */
static void fill(float *numbers) {
    static uint32_t state = 1;
    for (int n = 0; n < B * H * S * D; n++) {
        state = state * 1664525u + 1013904223u;
        numbers[n] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
}

/* The largest difference between one row of the output and the formula, in double precision. The row is token i of the
   head whose tokens begin at `head`. */
static double difference(int head, int i) {
    double weight[S], total = 0, largest = 0;
    for (int j = 0; j <= i; j++) {
        double score = 0;
        for (int c = 0; c < D; c++) score += (double)q[(head + i) * D + c] * k[(head + j) * D + c];
        total += weight[j] = exp(score / sqrt((double)D));
    }
    for (int d = 0; d < D; d++) {
        double expected = 0;
        for (int j = 0; j <= i; j++) expected += weight[j] / total * v[(head + j) * D + d];
        largest = fmax(largest, fabs(expected - o[(head + i) * D + d]));
    }
    return fmax(largest, fabs(log(total) - lse[head + i]));
}

int main(void) {
    fill(q);
    fill(k);
    fill(v);

    /* This program needs no workspace: causal_forward_workspace says 0. What it saves is for causal_backward. */
    causal_sizes sizes = {.B = B, .H = H, .S = S};
    void *saved = malloc((size_t)causal_saved_bytes(&sizes));
    int code = causal_forward(&sizes, q, k, v, o, lse, saved, NULL, THREADS);
    free(saved);
    if (code) {
        fprintf(stderr, "%s\n", causal_error(code));
        return 1;
    }

    double largest = 0;
    for (int head = 0; head < B * H * S; head += S)
        for (int i = 0; i < S; i++) largest = fmax(largest, difference(head, i));
    printf("causal attention of %d x %d x %d x %d: largest difference from the formula %.1e\n", B, H, S, D, largest);
    return largest < 1e-5 ? 0 : 1;
}
