"""The families that a command line can choose train, and their noise is the configured one."""

import pytest
from helpers import build, command, own_cache, pictures  # noqa: F401 - fixtures

from varprompt.posteriors import LowRankPosterior, MixturePosterior

OPTIONS = {
    "low_rank": {"TRAINER__VPT__RANK": 2, "TRAINER__VPT__SAMPLER": "antithetic"},
    "mixture": {"TRAINER__VPT__RESIDUAL": "per_token", "TRAINER__VPT__LEARN_CONTEXT": False,
                "TRAINER__VPT__TEMPLATES": ("a photo of a {}.", "a {} in a video game.")},
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_an_epoch(name, pictures, tmp_path):  # noqa: F811
    options = OPTIONS[name] | {
        "TRAINER__VPT__POSTERIOR": name, "OPTIM__MAX_EPOCH": 1, "TRAINER__VPT__KL_WEIGHT": 1.0,
        "TRAINER__VPT__KL_REDUCTION": "elbo", "TRAINER__VPT__PRIOR_STD": 0.2,
    }  # fmt: skip
    trainer = build(command(pictures, tmp_path, **options))
    posterior = trainer.model.prompt_learner.posterior
    before = [p.detach().clone() for p in posterior.parameters()]
    trainer.train()
    assert all((p != b).any() for p, b in zip(posterior.parameters(), before, strict=True))
    if name == "low_rank":
        assert isinstance(posterior, LowRankPosterior) and posterior.factor.shape[1] == 2
        assert posterior.sampler == "antithetic"
    else:
        assert isinstance(posterior, MixturePosterior) and posterior.lengths == (4, 5)
