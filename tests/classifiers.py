"""Shared by the tests of what is done with a model: small classifiers on the embedded CLIP."""

import functools

import torch

from varprompt.classifier import PromptClassifier

SIZE = 32
WORDS = ["small ring", "king_of_hearts", "sun"]  # mostly red, green, blue


def pictures(n, seed=0):
    """Images (n, 3, 32, 32) in [0, 1]: patches of colour."""
    cells = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return cells.repeat_interleave(8, 2).repeat_interleave(8, 3)


@functools.cache
def classifier(posterior=None, holdout=0.5, n=48, **options):
    """Learned in three epochs; not to be changed by a test."""
    images = pictures(n)
    labels = [WORDS[int(i)] for i in images.mean((2, 3)).argmax(1)]
    new = PromptClassifier(
        "embedded", posterior=posterior, holdout=holdout, epochs=3, device="cpu", n_samples_test=5,
        **options,
    )  # fmt: skip
    return new.fit(images, labels)
