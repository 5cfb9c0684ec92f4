"""The reparameterised step in plain torch: the definition that the fused one is compared with."""

import math

import torch
from torch import Tensor


def reparam_kl(
    mu: Tensor,
    logvar: Tensor,
    context: Tensor,
    eps: Tensor,
    prior_std: float,
    out_dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Add the residual mu + exp(logvar / 2) * eps to the context; KL from the prior N(0, s^2).

    Computes in float32, or in float64 if mu is float64.

    Args:
        mu: Posterior mean, (K, R, D).
        logvar: Posterior log-variance, (K, R, D).
        context: Context vectors, (M, D).
        eps: Standard normal noise, (L, K, R, D).
        prior_std: The prior's standard deviation s.
        out_dtype: Dtype of the contexts.

    Returns:
        contexts (L, K, M, D) and kl (K,), see `gaussian_kl`.
    """
    dtype = torch.promote_types(mu.dtype, torch.float32)
    mu, logvar, eps = mu.to(dtype), logvar.to(dtype), eps.to(dtype)
    residual = mu + (logvar / 2).exp() * eps  # (L, K, R, D)
    contexts = (context.to(dtype) + residual).to(out_dtype)  # (L, K, M, D)
    return contexts, gaussian_kl(mu, logvar, prior_std)


def gaussian_kl(mu: Tensor, logvar: Tensor, prior_std: float) -> Tensor:
    """KL of N(mu, diag(exp(logvar))) from N(0, s^2 I), (K,) in nats, summed over R and D.

    log s - logvar / 2 + (exp(logvar) + mu^2) / (2 s^2) - 1/2, written in logvar - log s^2.

    Args:
        mu: Mean, (K, R, D).
        logvar: Log-variance, (K, R, D).
        prior_std: The prior's standard deviation s.
    """
    log_ratio = logvar - 2 * math.log(prior_std)
    return (log_ratio.expm1() - log_ratio + (mu / prior_std).square()).sum((1, 2)) / 2
