"""Registries, and what a wrong name gets."""

import pytest
from dassl.data.datasets import build_dataset
from dassl.engine import build_trainer
from dassl.evaluation import build_evaluator
from dassl.utils import Registry, check_availability, get_most_similar_str_to_a_from_b


def test_registers_by_name_in_order():
    registry = Registry("THING")

    @registry.register()
    def second():
        pass

    def first():
        pass

    assert registry.register(first) is None
    assert registry.registered_names() == ["second", "first"]
    assert registry.get("second") is second and registry.get("first") is first


def test_taken_and_unknown_names():
    registry = Registry("THING")

    def name():
        pass

    other = type("name", (), {})
    registry.register(name)
    with pytest.raises(KeyError, match='"name" was already registered in "THING"'):
        registry.register()(other)
    assert registry.get("name") is name
    with pytest.raises(KeyError, match="missing.*THING"):
        registry.get("missing")


def test_nearest_name():
    assert get_most_similar_str_to_a_from_b("CoOpp", ["VPT", "CoOp", "CoCoOp"]) == "CoOp"
    assert get_most_similar_str_to_a_from_b("x", ["abc", "def"]) == "def"  # ties: the last
    check_availability("b", ["a", "b"])
    with pytest.raises(ValueError, match="CoCoOp.*"):
        check_availability("cocop", ["CoCoOp", "VPT"])


@pytest.mark.parametrize(
    "key, build, nearest",
    [
        ("DATASET.NAME", build_dataset, "ContractPixels"),
        ("TRAINER.NAME", build_trainer, "ContractNet"),
        ("TEST.EVALUATOR", build_evaluator, "Classification"),
    ],
)
def test_builders_suggest(cfg, key, build, nearest, stand_in):
    cfg.merge_from_list([key, nearest[:-1]])
    with pytest.raises(ValueError) as caught:
        build(cfg)
    assert nearest in str(caught.value).split("mean")[1][: len(nearest) + 4]
    if stand_in:
        assert str(caught.value).endswith(f"({key})")


@pytest.mark.parametrize("verbose", [True, False])
def test_builders_say_what_they_load(cfg, verbose, capsys):
    cfg.VERBOSE = verbose
    build_evaluator(cfg, lab2cname={})
    build_dataset(cfg)
    lines = ["Loading evaluator: Classification", "Loading dataset: ContractPixels"]
    assert capsys.readouterr().out.splitlines() == (lines if verbose else [])
