"""CoCoOp's shift of the context: a function of the image, without noise and without a prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .base import Posterior
from .delta import DeltaPosterior


class MetaNet(Posterior):
    """A two-layer ReLU network, hidden width E // 16 (arXiv 2203.05557); its KL is 0."""

    conditional_options = (True,)
    kl_is_exact = True
    prior_is_normal = False
    unread = (*DeltaPosterior.unread, "kl_weight", "kl_reduction", "prior_std", "prior_unit")

    def __init__(self, rows: int, width: int, feature_width: int, logvar_init: float | None = None):
        super().__init__(1, width, feature_width)
        hidden = max(1, feature_width // 16)
        self.linear1 = nn.Linear(feature_width, hidden)
        self.linear2 = nn.Linear(hidden, width)

    @classmethod
    def problems(cls, values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
        """One shift for all tokens is what it makes."""
        if values["residual"] == "shared":
            return []
        return [f"{names['residual']} is {values['residual']!r}; 'meta_net' makes a shared one"]

    def noise_shape(self, n_samples: int, n_rows: int) -> None:
        """No noise."""
        return None

    def rsample(self, n_samples: int, features: Tensor, eps: Tensor) -> Tensor:
        """The shift `(1, B, 1, D)`."""
        features = features.to(self.linear1.weight.dtype)
        return self.linear2(self.linear1(features).relu())[None, :, None]

    def kl(self, residual: Tensor, features: Tensor, prior_std: float) -> Tensor:
        """Zeros `(B,)`: there is no prior."""
        return residual.new_zeros(len(features))
