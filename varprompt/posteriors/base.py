"""Posteriors over the prompt residual: a Gaussian q(r) or q(r | image), and its controls.

A posterior answers with the mean and the log-variance of `K` independent Gaussians over `(R, D)`
numbers; K = 1 if it ignores the image and K = B if it does not. Method: arXiv 2210.02390.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError

LOGVAR_BOUNDS = (-20.0, 10.0)  # standard deviations of 5e-5 and 150: no under- or overflow
_BEND = 3.0  # how sharply `bounded` turns at a bound


def amortized_net(n_in: int, n_out: int) -> nn.Sequential:
    """The network that maps unit-norm image features `(B, E)` to `(B, n_out)`.

    Three linear layers with ELU, hidden width E // 2 (the authors' published runs used one such
    network for the mean and another for the log-variance).
    """
    hidden = max(1, n_in // 2)
    return nn.Sequential(
        nn.Linear(n_in, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU(),
        nn.Linear(hidden, n_out),
    )  # fmt: skip


def bounded(logvar: Tensor) -> Tensor:
    """Keep log-variances within `LOGVAR_BOUNDS`, smoothly; unchanged to 1e-8 from -12 to 4.

    Two soft corners, l + softplus(b (x - l)) / b at the lower bound and its mirror image at the
    upper one, written as corrections of a clamp so that nothing is rounded in between.
    """
    low, high = LOGVAR_BOUNDS
    lift = F.softplus(-_BEND * (logvar - low).abs()) / _BEND
    drop = F.softplus(-_BEND * (logvar - high).abs()) / _BEND
    return logvar.clamp(low, high) + lift - drop


class Posterior(nn.Module):
    """Base class; a family overrides `forward`.

    Args:
        rows: R, residuals per prompt (1 = one shared by all context tokens).
        width: D, text width.
        feature_width: E if the posterior depends on the image, else 0.
        logvar_init: initial log-variance; None = the authors' initialisation.
    """

    def __init__(
        self, rows: int, width: int, feature_width: int = 0, logvar_init: float | None = None
    ):
        super().__init__()
        self.shape = (rows, width)
        self.feature_width = feature_width
        if feature_width:
            self.mean = amortized_net(feature_width, rows * width)
        else:
            self.mu = nn.Parameter(torch.zeros(rows, width))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance `(K, R, D)` for features `(B, E)`; None means no noise at all."""
        raise NotImplementedError

    def _location(self, features: Tensor) -> Tensor:
        if self.feature_width:
            return self.mean(features.float()).unflatten(-1, self.shape)  # (B, R, D)
        return self.mu[None]  # (1, R, D)


class GaussianPosterior(Posterior):
    """Diagonal Gaussian with a learned log-variance (the paper's).

    The authors start a free log-variance at U(0, 1), a standard deviation of 1 to 1.65, and leave
    the amortised one at its network's default initialisation, a standard deviation of about 1.
    """

    def __init__(
        self, rows: int, width: int, feature_width: int = 0, logvar_init: float | None = None
    ):
        super().__init__(rows, width, feature_width, logvar_init)
        if feature_width:
            self.logvar = amortized_net(feature_width, rows * width)
            if logvar_init is not None:
                nn.init.constant_(self.logvar[-1].bias, logvar_init)
        else:
            start = torch.rand(rows, width) if logvar_init is None else logvar_init
            self.logvar = nn.Parameter(torch.zeros(rows, width) + start)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Learned mean and log-variance within `LOGVAR_BOUNDS`, `(K, R, D)` each."""
        if self.feature_width:
            logvar = self.logvar(features.float()).unflatten(-1, self.shape)
        else:
            logvar = self.logvar[None]
        return self._location(features), bounded(logvar)


class FixedPosterior(Posterior):
    """Gaussian with a learned mean and the constant log-variance `logvar_init`."""

    def __init__(
        self, rows: int, width: int, feature_width: int = 0, logvar_init: float | None = None
    ):
        super().__init__(rows, width, feature_width, logvar_init)
        if logvar_init is None:
            raise ConfigError(
                "posterior 'fixed' needs its log-variance: set TRAINER.VPT.LOGVAR_INIT (-7.0 is a "
                "standard deviation of 0.03)"
            )
        self.register_buffer("logvar", torch.full((1, rows, width), float(logvar_init)))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Learned mean and constant log-variance, `(K, R, D)` each."""
        mu = self._location(features)
        return mu, self.logvar.expand_as(mu)


class DeltaPosterior(Posterior):
    """No noise: the mean is a maximum a posteriori estimate, the control of the other two."""

    def forward(self, features: Tensor) -> tuple[Tensor, None]:
        """Learned mean `(K, R, D)`; None for the log-variance."""
        return self._location(features), None


class MetaNet(Posterior):
    """CoCoOp's image-conditional shift of the context: a two-layer ReLU network, no noise."""

    def __init__(
        self, rows: int, width: int, feature_width: int = 0, logvar_init: float | None = None
    ):
        nn.Module.__init__(self)
        self.shape = (1, width)
        hidden = max(1, feature_width // 16)
        self.linear1 = nn.Linear(feature_width, hidden)
        self.linear2 = nn.Linear(hidden, width)

    def forward(self, features: Tensor) -> tuple[Tensor, None]:
        """Shift `(B, 1, D)` for features `(B, E)`."""
        return self.linear2(self.linear1(features.float()).relu())[:, None], None


POSTERIORS: dict[str, type[Posterior]] = {
    "gaussian": GaussianPosterior,
    "fixed": FixedPosterior,
    "delta": DeltaPosterior,
}
