"""Predictions that scores must get along with."""

import torch


def logits(n, n_classes, seed=0, n_samples=0, sharpness=3.0):
    generator = torch.Generator().manual_seed(seed)
    shape = (n_samples, n, n_classes) if n_samples else (n, n_classes)
    return sharpness * torch.randn(shape, generator=generator, dtype=torch.float64)


def predictions(n, n_classes, seed=0, n_samples=0, sharpness=3.0):
    """Log-probabilities, and labels drawn from those of the (first) sample, half of them at random.

    So that there are right and wrong ones.
    """
    log_prob = logits(n, n_classes, seed, n_samples, sharpness).log_softmax(-1)
    generator = torch.Generator().manual_seed(seed + 1)
    first = log_prob[0] if n_samples else log_prob
    drawn = torch.multinomial(first.exp(), 1, generator=generator)[:, 0]
    other = torch.randint(n_classes, (n,), generator=generator)
    return log_prob, torch.where(torch.rand(n, generator=generator) < 0.5, drawn, other)


def pairs(n, seed=0, decimals=None):
    """Confidences and correctness, `(n,)`; rounded, with ties."""
    generator = torch.Generator().manual_seed(seed)
    confidence = torch.rand(n, generator=generator, dtype=torch.float64)
    correct = (torch.rand(n, generator=generator, dtype=torch.float64) < confidence).double()
    return (confidence if decimals is None else confidence.round(decimals=decimals)), correct


def certain(prob):
    """Log-probabilities of probabilities that may be 0."""
    return torch.tensor(prob, dtype=torch.float64).log()


ODD = {  # log-probabilities and labels
    "one image": (certain([[0.3, 0.7]]), torch.tensor([0])),
    "one class": (certain([[1.0], [1.0]]), torch.tensor([0, 0])),
    "ties": (certain([[0.5, 0.5]] * 5), torch.tensor([0, 1, 1, 0, 1])),
    "sure and right": (certain([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0])),
    "sure and wrong": (certain([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1])),
    "sure, right and wrong": (certain([[0.0, 1.0, 0.0]] * 3), torch.tensor([1, 0, 1])),
}
