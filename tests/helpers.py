"""Shared by the tests of the core: a model beside its textbook version."""

import copy
import functools

import reference
import torch

from varprompt.model import PromptedCLIP
from varprompt.objective import ObjectiveConfig, kl_scale, objective

NAMES = ["dog", "polka-dotted", "centered_lily_of_the_valley", "Boeing 747-400 St.", "x"]
N_TRAIN = 13  # for KL_REDUCTION "elbo"


@functools.cache
def _random_clip(options):
    return reference.random_clip(**dict(options))


def small_clip(**options):
    """A fresh copy of `reference.random_clip`, made once per set of options."""
    return copy.deepcopy(_random_clip(tuple(sorted(options.items()))))


@functools.cache
def textbook_clip(**options):
    """The float64 copy of `small_clip`."""
    return reference.double(small_clip(**options))


def images(n, size=32, seed=0):
    """Images (n, 3, size, size)."""
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def noise(n_samples, n_rows, posterior, seed=1):
    """Noise (L, K, R, D)."""
    generator = torch.Generator().manual_seed(seed)
    shape = posterior.shape if posterior is not None else (1, 1)
    return torch.randn(n_samples, n_rows, *shape, generator=generator)


def prompted(config, names=NAMES, clip=None, seed=2):
    """A model whose learner has left its initial values, so that everything matters."""
    torch.manual_seed(seed)
    model = PromptedCLIP(clip or small_clip(), names, config)
    with torch.no_grad():
        for name, p in model.prompt_learner.named_parameters():
            p.add_((0.02 if name == "ctx" else 0.1) * torch.randn_like(p))
    return model


def production(model, config, x, labels, eps):
    """Logits, loss, and the gradient of every parameter by name."""
    logits, kl = model.logits(x, eps=eps)
    scale = kl_scale(config.kl_weight, config.kl_reduction, model.n_dims, N_TRAIN)
    loss = objective(logits, labels, kl, ObjectiveConfig(config.objective, scale)).loss
    model.prompt_learner.zero_grad()
    loss.backward()
    gradients = {n: p.grad for n, p in model.prompt_learner.named_parameters()}
    return logits.detach(), loss.detach(), gradients


def textbook(model, config, x, labels, eps, names=NAMES, clip=None):
    """The same in float64 by tests/reference.py."""
    clip = clip or textbook_clip()
    trained = dict(model.prompt_learner.named_parameters())
    values = {
        n: v.detach().double().requires_grad_(n in trained)
        for n, v in model.prompt_learner.state_dict().items()
    }
    features = reference.image_features(clip, x.double())
    contexts, mu, logvar = reference.contexts(values, features, eps.double())
    logits = reference.logits(clip, features, contexts, names, config.position)
    loss = reference.loss(
        logits, labels, reference.kl(mu, logvar, config.prior_std), model.n_dims,
        objective=config.objective, kl_weight=config.kl_weight,
        kl_reduction=config.kl_reduction, n_train=N_TRAIN,
    )  # fmt: skip
    gradients = dict(
        zip(trained, torch.autograd.grad(loss, [values[n] for n in trained]), strict=True)
    )
    return logits.detach(), loss.detach(), gradients


def error(got, want):
    """Largest difference relative to the largest value."""
    return ((got.double() - want.double()).abs().max() / want.abs().max().clamp(min=1e-30)).item()
