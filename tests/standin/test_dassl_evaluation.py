"""The evaluator's numbers, lines and files."""

import numpy as np
import pytest
import torch
from dassl.evaluation import build_evaluator

LABELS = torch.tensor([0, 0, 0, 0, 2, 2, 1])
PREDICTIONS = torch.tensor([0, 0, 0, 3, 2, 0, 1])  # class 3 is predicted but never true
F1 = 100 * (6 / 8 + 2 / 3 + 1) / 3  # class 0: 2 * 3 / (4 + 4), class 2: 2 * 1 / (2 + 1)


def evaluate(cfg, capsys):
    cfg.VERBOSE = False
    evaluator = build_evaluator(cfg, lab2cname={0: "ant", 1: "bee", 2: "cat"})
    evaluator.process(torch.eye(4), torch.arange(4))
    evaluator.reset()
    for part in (slice(0, 3), slice(3, 7)):
        scores = torch.nn.functional.one_hot(PREDICTIONS[part], 4).float()
        evaluator.process(scores, LABELS[part])
    return evaluator.evaluate(), capsys.readouterr().out.splitlines()


def test_results_and_lines(cfg, capsys):
    results, lines = evaluate(cfg, capsys)
    assert list(results) == ["accuracy", "error_rate", "macro_f1"]
    assert list(results.values()) == pytest.approx([500 / 7, 200 / 7, F1], rel=1e-12)
    assert lines == [
        "=> result",
        "* total: 7",
        "* correct: 5",
        "* accuracy: 71.4%",
        "* error: 28.6%",
        "* macro_f1: 80.6%",
    ]


def test_thousands_separators(cfg, capsys):
    evaluator = build_evaluator(cfg, lab2cname={})
    evaluator.process(torch.eye(2).repeat(617, 1), torch.tensor([0, 1]).repeat(617))
    capsys.readouterr()
    evaluator.evaluate()
    assert capsys.readouterr().out.splitlines()[1:3] == ["* total: 1,234", "* correct: 1,234"]


def test_per_class(cfg, capsys):
    cfg.TEST.PER_CLASS_RESULT = True
    results, lines = evaluate(cfg, capsys)
    assert lines[6:] == [
        "=> per-class result",
        "* class: 0 (ant)\ttotal: 4\tcorrect: 3\tacc: 75.0%",
        "* class: 1 (bee)\ttotal: 1\tcorrect: 1\tacc: 100.0%",
        "* class: 2 (cat)\ttotal: 2\tcorrect: 1\tacc: 50.0%",
        "* average: 75.0%",
    ]
    assert list(results)[3] == "perclass_accuracy" and results["perclass_accuracy"] == 75.0


def test_confusion_matrix_file(cfg, capsys, tmp_path):
    (tmp_path / "out").mkdir()
    cfg.TEST.COMPUTE_CMAT = True
    _, lines = evaluate(cfg, capsys)
    path = f"{cfg.OUTPUT_DIR}/cmat.pt"
    assert lines[6:] == [f"Confusion matrix is saved to {path}"]
    matrix = torch.load(path, weights_only=False)  # an array, written by this test
    assert isinstance(matrix, np.ndarray)
    expected = [[0.75, 0, 0, 0.25], [0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(matrix, expected)


def test_class_names_are_needed_per_class(cfg):
    cfg.TEST.PER_CLASS_RESULT = True
    with pytest.raises((ValueError, AssertionError)):
        build_evaluator(cfg)
