"""Known against unknown classes, against scikit-learn."""

import pytest
import torch
from cases import logits
from sklearn.metrics import roc_auc_score

from varprompt.uncertainty import near_ood, ood_scores


def test_scores_and_their_figures():
    inside, outside = logits(61, 5, 0, 3, 4.0), logits(47, 5, 1, 3, 2.0)
    pair = inside.log_softmax(-1), outside.log_softmax(-1)
    found = near_ood(*pair, inside, outside, n_resamples=200)
    prob = [log_prob.exp().mean(0) for log_prob in pair]
    want = {
        "max_probability": [p.amax(-1) for p in prob],
        "entropy": [(p * p.log()).sum(-1) for p in prob],
        "max_logit": [z.amax(-1).mean(0) for z in (inside, outside)],
        "energy": [z.exp().sum(-1).log().mean(0) for z in (inside, outside)],
    }
    truth = [1] * 61 + [0] * 47
    for name, scores in want.items():
        auroc = 100 * roc_auc_score(truth, torch.cat(scores))
        assert found[f"ood_{name}_auroc"] == pytest.approx(auroc)
        assert found[f"ood_{name}_auroc_low"] < auroc < found[f"ood_{name}_auroc_high"]
        assert 0 < found[f"ood_{name}_auroc_mc_error"] < 20
    assert found["ood_energy_auroc"] > 80
    assert 0 <= found["ood_mutual_information_fpr95"] <= 100


def test_what_a_single_distribution_and_no_logits_leave():
    log_prob = logits(9, 4).log_softmax(-1)
    assert ood_scores(log_prob).keys() == {"max_probability", "entropy", "mutual_information"}
    found = near_ood(log_prob, log_prob, n_resamples=0)
    assert found["ood_mutual_information_auroc"] == found["ood_entropy_auroc"] == pytest.approx(50)
    with pytest.raises(ValueError, match="of both groups or of neither"):
        near_ood(log_prob, log_prob, log_prob)
