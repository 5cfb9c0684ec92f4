"""A family of posteriors."""

from varprompt.posteriors import POSTERIORS, GaussianPosterior


class WarmPosterior(GaussianPosterior):
    """The Gaussian one, from a narrow start."""

    def __init__(self, rows, width, feature_width=0, logvar_init=None):
        super().__init__(rows, width, feature_width, -9.0 if logvar_init is None else logvar_init)


POSTERIORS["warm"] = WarmPosterior
