"""One row for each family of posteriors and each way to build it; tests run over the table."""

import pytest
import torch

from varprompt.posteriors import POSTERIORS, PosteriorSpec

M, D, E, B, L, G = 4, 5, 37, 3, 6, 3
PRIOR_STD = 0.7
LOGVAR = -3.0


LENGTHS = (4, 2, 3)  # tokens of each template, M at most


def anchors():
    """(G, M, D), far enough from each other to be told apart, near enough to overlap."""
    made = 0.4 * torch.randn(G, M, D, generator=torch.Generator().manual_seed(5))
    made[torch.arange(M) >= torch.tensor(LENGTHS)[:, None]] = 0
    return made - made[0]


def n_drawn(posterior, n_samples):
    """How many samples come: without noise one of each component."""
    parts = len(getattr(posterior, "lengths", [()]))
    return parts if posterior.noise_shape(1, 1) is None else -(-n_samples // parts) * parts


def build(name, rows=1, feature_width=0, logvar_init=LOGVAR, moved=0.1):
    """A posterior whose parameters have left their initial values, so that everything matters."""
    torch.manual_seed(0)  # initial weights: a network of few ReLUs may be dead
    family, _, component = name.partition("-")
    spec = PosteriorSpec(
        rows, D, feature_width, logvar_init, rank=2, anchors=anchors(), lengths=LENGTHS,
        component=component or "gaussian",
    )  # fmt: skip
    posterior = POSTERIORS[family].from_spec(spec)
    with torch.no_grad():
        for p in posterior.parameters():
            p.add_(moved * torch.randn_like(p))
    return posterior


def features():
    """Unit-norm image features (B, E)."""
    made = torch.randn(B, E, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(made, dim=-1)


def context():
    """(M, D)."""
    return torch.randn(M, D, generator=torch.Generator().manual_seed(3))


KINDS = POSTERIORS | {f"mixture-{c}": POSTERIORS["mixture"] for c in ("fixed", "delta")}
FORMS = [
    (name, rows, E if conditional else 0)
    for name, family in KINDS.items()
    for conditional in family.conditional_options
    for rows in (1, M)
    if not (name == "meta_net" and rows > 1)
    if conditional or rows > 1 or not name.startswith("mixture")
]
every_form = pytest.mark.parametrize(
    ("name", "rows", "feature_width"), FORMS, ids=[f"{n}-R{r}-E{e}" for n, r, e in FORMS]
)
