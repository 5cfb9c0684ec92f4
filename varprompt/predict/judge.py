"""From a batch of images to rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..common.characters import printable
from ..common.console import say
from ..uncertainty.rejection import RiskThreshold, risk_threshold
from .rows import Row

if TYPE_CHECKING:
    from ..classifier.learned import Learned

RISK = 0.05


class Judge:
    """Says of images what they show.

    Args:
        learned: of a `varprompt.PromptClassifier`.
        n_top: classes for each image; all, if there are fewer.
        limit: see `threshold_of`; None = nobody knows what is unsure.
    """

    def __init__(self, learned: Learned, n_top: int, limit: RiskThreshold | None = None):
        self.learned = learned
        self.n_top = min(n_top, len(learned.names))
        self.limit = limit

    @torch.no_grad()
    def rows(self, paths: Sequence[str], images: Tensor) -> list[Row]:
        """A row for each of the transformed images `(B, 3, H, W)`."""
        return self.rows_of(paths, self.learned.encode_image(images).cpu())

    @torch.no_grad()
    def rows_of(self, paths: Sequence[str], features: Tensor) -> list[Row]:
        """A row for each of the images with these features `(B, E)`."""
        found = self.learned.predict(features)
        best, index = torch.from_numpy(found.prob).topk(self.n_top)
        rows = zip(paths, best.tolist(), index.tolist(), *found.uncertainty, strict=True)
        return [
            Row(
                path,
                tuple((self.learned.names[i], p) for i, p in zip(which, probs, strict=True)),
                (float(total), float(aleatoric), float(epistemic)),
                None if self.limit is None else not probs[0] > self.limit.threshold,
            )
            for path, probs, which, total, aleatoric, epistemic in rows
        ]


def threshold_of(learned: Learned, risk: float, name: str) -> RiskThreshold | None:
    """The confidence above which the model errs with at most probability `risk`; says what it is.

    Args:
        learned: with what was held out.
        risk: in (0, 1).
        name: of the model, for messages.

    Returns:
        None if nothing was held out.
    """
    found, line = known_of_errors(learned, risk, name)
    say(line)
    return found


def known_of_errors(learned: Learned, risk: float, name: str) -> tuple[RiskThreshold | None, str]:
    """What `threshold_of` returns, and what it says."""
    held, share = learned.held_out, f"{100 * risk:g} %"
    if held is None:
        return None, (
            f"{printable(name)} {learned.without}, so nothing is known of errors: no image is "
            f"marked as unsure at a risk of {share}"
        )
    found = risk_threshold(held.confidence, held.correct, risk)
    if not found.coverage:
        return found, (
            f"{found.n_images} held-out images are too few, or too often wrong, to promise a risk "
            f"of {share}: every image is marked as unsure; give a larger --risk"
        )
    level = f"unsure: below a probability of {100 * found.threshold:.1f} %"
    if found.threshold <= 0:
        level = f"no image is unsure at a risk of {share}"
    return found, (
        f"{level}; of {found.n_images} held-out images {100 * found.coverage:.0f} % are above, "
        f"{100 * found.error:.1f} % of these wrong (at most {share} with a certainty of "
        f"{100 * (1 - found.delta):g} %)"
    )
