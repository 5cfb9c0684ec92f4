"""Single values are checked in one place; problems are collected, values come back."""

import pytest

from varprompt.common.checks import check_choice, check_range


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("fp16", None),
        ("float16", "PREC is 'float16'; choose from fp32, fp16, did you mean 'fp16'?"),
        (["fp16"], "PREC is ['fp16']; choose from fp32, fp16, did you mean 'fp16'?"),
        (7, "PREC is 7; choose from fp32, fp16"),
    ],
)
def test_choice(value, problem):
    problems = []
    assert check_choice(value, {"fp32": 1, "fp16": 2}, "PREC", problems) == value
    assert problems == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("value", "whole", "problem"),
    [
        (1, True, None),
        (1.5, False, None),
        (0, True, "L is 0; it must be at least 1"),
        (11, True, "L is 11; it must be at most 10"),
        (float("nan"), False, "L is nan; it must be at least 1"),
        (2.5, True, "L is 2.5; give a whole number"),
        (True, True, "L is True; give a whole number"),
        ("3", False, "L is '3'; give a number"),
        (None, False, "L is None; give a number"),
    ],
)
def test_range(value, whole, problem):
    problems = []
    assert check_range(value, 1, 10, "L", problems, whole=whole) is value
    assert problems == ([problem] if problem else [])
