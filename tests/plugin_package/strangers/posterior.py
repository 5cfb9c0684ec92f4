"""A family of posteriors: what it draws and how dense that is; the KL comes from the base class."""

import torch
from torch import nn

from varprompt.posteriors import POSTERIORS, Posterior


class LaplacePosterior(Posterior):
    """One Laplace distribution for each number of the residual, whatever the image."""

    conditional_options = (False,)

    def __init__(self, rows, width, feature_width=0, logvar_init=None):
        super().__init__(rows, width)
        start = -9.0 if logvar_init is None else logvar_init
        self.location = nn.Parameter(torch.zeros(rows, width))
        self.log_scale = nn.Parameter(torch.full((rows, width), start / 2))

    def rsample(self, n_samples, features, eps):
        """Residuals (L, 1, R, D) from normal noise, by the distribution function of both."""
        return (
            self.location
            - self.log_scale.exp()
            * eps.sign()
            * (2 * torch.special.ndtr(-eps.abs())).clamp(min=1e-30).log()
        )

    def log_prob(self, residual, features):
        """Log-density (L, 1)."""
        distance = (residual - self.location).abs() / self.log_scale.exp()
        return -(distance + self.log_scale + torch.log(torch.tensor(2.0))).sum((-2, -1))


POSTERIORS["laplace"] = LaplacePosterior
