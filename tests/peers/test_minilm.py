"""Sentence embeddings with irc's attention against the same model in transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from minilm import LONGEST, SENTENCES, SPEC, Encoder, model_folder
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

import irc

MORE = [
    "Äpfel, naïve café: 100% (don't) $5^2 中文 unaffable\tend",
    "supercalifragilisticexpialidocious " * 4,
    "The quick brown fox jumps over the lazy dog. " * 20,
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(irc.compile(SPEC))


def original(sentences: list[str]) -> tuple[list[list[int]], NDArray[np.float32]]:
    """Token ids and embeddings (mean over the present tokens, normalised) as transformers computes them."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    network = AutoModel.from_pretrained(model_folder(), attn_implementation="eager").eval()
    batch = tokenizer(sentences, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
    with torch.no_grad():
        hidden = network(**batch).last_hidden_state
    present = batch["attention_mask"][..., None].float()
    mean = (hidden * present).sum(1) / present.sum(1)
    ids = [
        row[row_mask == 1].tolist() for row, row_mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    return ids, torch.nn.functional.normalize(mean, dim=-1).numpy()


def test_embeddings_of_a_ragged_batch_agree_with_transformers(encoder: Encoder) -> None:
    sentences = [*SENTENCES, *MORE]
    ids, expected = original(sentences)
    assert [encoder.tokens(s, LONGEST) for s in sentences] == ids
    assert len({len(row) for row in ids}) > 4, "the batch is meant to be ragged"
    np.testing.assert_allclose(encoder(sentences), expected, rtol=0, atol=1e-5)


def test_what_stands_in_the_padding_reaches_no_sentence(encoder: Encoder) -> None:
    length = np.array([5, 9], dtype=np.int32)
    tokens = np.random.default_rng(0).integers(1000, 20000, size=(2, 9))
    other = tokens.copy()
    other[0, 5:] = 2000
    first, second = encoder.hidden(tokens, length), encoder.hidden(other, length)
    assert np.array_equal(first[0, :5], second[0, :5])
    assert np.array_equal(first[1], second[1])
