"""Training metrics."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def compute_accuracy(
    output: Tensor | Sequence[Tensor], target: Tensor, topk: Sequence[int] = (1,)
) -> list[Tensor]:
    """Percentage of rows of `output` (B, C) with `target` (B,) among their k largest entries.

    Of a tuple or list the first element counts. One tensor of shape (1,) per k in `topk`.
    """
    scores = output if isinstance(output, Tensor) else output[0]
    ranked = scores.topk(max(topk), dim=1).indices  # (B, max k), best first
    hits = ranked == target[:, None]
    return [hits[:, :k].any(dim=1).float().mean(dim=0, keepdim=True) * 100 for k in topk]
