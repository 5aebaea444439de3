"""Train a small causal language model on Python's own help texts, attention forward and backward through irc.

    python examples/charlm/train.py --steps 200 --plot out/charlm.png

The text comes with every Python (`pydoc_data.topics`), so nothing is downloaded. The loss starts near
log(number of characters) = 4.6 nats a character.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

import model
import numpy as np
from numpy.typing import NDArray

SPEC = Path(__file__).with_name("charlm.attn")
BATCH, CONTEXT = 16, 128
ALPHABET = "\n" + "".join(chr(code) for code in range(32, 127))


def text() -> NDArray[np.int64]:
    """The help texts as numbers of `ALPHABET`; other characters are written as `?`."""
    number = {char: n for n, char in enumerate(ALPHABET)}
    joined = "\n\n".join(topics[name] for name in sorted(topics))
    return np.array([number.get(char, number["?"]) for char in joined], dtype=np.int64)


def batches(data: NDArray[np.int64], seed: int = 0) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Random stretches of the text, and what follows each of their characters."""
    random = np.random.default_rng(seed)
    while True:
        starts = random.integers(0, len(data) - CONTEXT, size=(BATCH, 1))
        chosen = data[starts + np.arange(CONTEXT + 1)]
        yield chosen[:, :-1], chosen[:, 1:]


class Adam:
    """Kingma and Ba 2015, with a warm-up of the step size."""

    def __init__(self, weights: model.Weights, rate: float = 3e-3, warm_up: int = 20) -> None:
        self.weights, self.rate, self.warm_up, self.steps = weights, rate, warm_up, 0
        self.mean = {name: np.zeros_like(w) for name, w in weights.items()}
        self.square = {name: np.zeros_like(w) for name, w in weights.items()}

    def step(self, grads: model.Weights) -> None:
        self.steps += 1
        rate = self.rate * min(1.0, self.steps / self.warm_up)
        for name, grad in grads.items():
            self.mean[name] += (grad - self.mean[name]) * np.float32(0.1)
            self.square[name] += (grad * grad - self.square[name]) * np.float32(0.01)
            mean = self.mean[name] / np.float32(1 - 0.9**self.steps)
            square = self.square[name] / np.float32(1 - 0.99**self.steps)
            self.weights[name] -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-6))


def train(attention: model.Attention, steps: int) -> Iterator[tuple[float, model.Weights]]:
    """The loss of each step before its update, and the weights, which change in place."""
    weights = model.initial_weights(len(ALPHABET), CONTEXT)
    adam = Adam(weights)
    for _, (before, after) in zip(range(steps), batches(text()), strict=False):
        loss, grads = model.loss_and_gradients(weights, attention, before, after)
        adam.step(grads)
        yield loss, weights


def sample(weights: model.Weights, attention: model.Attention, prompt: str, length: int) -> str:
    """The prompt continued, one character drawn at a time."""
    random = np.random.default_rng(0)
    numbers = [ALPHABET.index(char) for char in prompt]
    for _ in range(length):
        scores, _ = model.logits(weights, attention, np.array([numbers[-CONTEXT:]]))
        odds = np.exp((scores[0, -1] - scores[0, -1].max()).astype(np.float64) / 0.7)
        numbers.append(int(random.choice(len(ALPHABET), p=odds / odds.sum())))
    return "".join(ALPHABET[n] for n in numbers)


def draw(losses: list[float], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(losses, color="tab:blue", linewidth=1)
    axes.axhline(np.log(len(ALPHABET)), color="gray", linestyle=":", label="guessing")
    axes.set(xlabel="step", ylabel="loss, nats a character", title="Characters of Python's help, attention by irc")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--plot", type=Path, help="draw the loss curve into this file")
    options = parser.parse_args()
    if options.steps < 1:
        parser.error("--steps must be at least 1")

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    import irc

    started = time.perf_counter()
    attention = irc.compile(SPEC)
    losses: list[float] = []
    weights: model.Weights = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("training", total=options.steps)
        for loss, current in train(attention, options.steps):
            weights = current
            losses.append(loss)
            progress.update(task, advance=1, description=f"loss {loss:.3f}")
            if len(losses) % 25 == 1 or len(losses) == options.steps:
                progress.console.print(f"step {len(losses):4d}   loss {loss:.4f}", highlight=False)
    print(f"\n{options.steps} steps in {time.perf_counter() - started:.1f} s; the model continues a prompt:\n")
    print("    " + sample(weights, attention, "The statement ", 160).replace("\n", "\n    "))
    if options.plot:
        draw(losses, options.plot)
        print(f"\nLook at       {options.plot}   (the loss curve)")
    print(f"Read          {SPEC.relative_to(Path.cwd()) if SPEC.is_relative_to(Path.cwd()) else SPEC}")
    print("Type next     .venv/bin/irc show examples/causal.attn --stage graph")
    print("              .venv/bin/irc plot examples/softcap_window.attn --size Sq=48,Sk=64 --set window=16")


if __name__ == "__main__":
    main()
