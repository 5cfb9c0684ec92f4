"""The benchmark of few samples: what it trains and tests with, and its table."""

import dataclasses

import pytest

from benchmarks import stability
from benchmarks._rows import read
from benchmarks._runs import preload


@pytest.fixture
def quick(monkeypatch):
    preload()
    for name, recipe in stability.RECIPES.items():
        options = (*recipe.options, "OPTIM.MAX_EPOCH", "2")
        monkeypatch.setitem(stability.RECIPES, name, dataclasses.replace(recipe, options=options))


def test_runs_have_as_many_samples_as_they_say(quick, monkeypatch, tmp_path):
    seen = []
    original = stability.logits_of

    def logits_of(model, features, n_samples):
        logits = original(model, features, n_samples)
        seen.append((model.config.n_samples, n_samples, len(logits)))
        return logits

    monkeypatch.setattr(stability, "logits_of", logits_of)
    monkeypatch.setattr(stability, "SAMPLES", (1, 10))
    words = ["--datasets", "digits", "--seeds", "1", "--data", str(tmp_path / "data"),
             "--output", str(tmp_path / "s.json")]  # fmt: skip
    assert stability.main(words) == 0
    rows = read(tmp_path / "s.json", stability.KEY)
    found = {(row["recipe"], row["n_samples"]): row["prompts"] for row in rows}
    assert found == {
        ("official", 1): 1, ("official", 10): 10, ("scaled", 1): 1, ("scaled", 10): 10,
        ("slower", 1): 1, ("slower", 10): 10, ("fixed", 1): 1, ("fixed", 10): 10,
        ("gaussian", 1): 6, ("gaussian", 10): 12, ("points", 1): 6,
    }  # fmt: skip
    assert {(train, test) for train, test, _ in seen} == {(1, 1), (1, 16), (10, 10), (10, 16)}
    assert len(rows[0].keys() & {"base/same", "base/most", "new/same", "new/most"}) == 4
    before = len(seen)
    assert stability.main(words) == 0 and len(seen) == before  # finished runs are kept


def test_the_table_compares_with_the_most_samples(tmp_path, capsys):
    rows = [
        {"dataset": d, "seed": s, "recipe": r, "n_samples": n, "prompts": n,
         **dict.fromkeys(("base/same", "new/same", "base/most", "new/most"), h + s)}
        for d in ("a", "b") for s in (1, 2) for r in stability.RECIPES
        for n, h in zip(stability.SAMPLES, (50, 54, 55, 56), strict=True)
    ]  # fmt: skip
    rows[0]["base/same"] = rows[0]["new/same"] = 41.0  # of official, L = 1
    assert stability.complete([*rows, rows[0] | {"seed": 3}]) == rows
    text = stability.table(rows).splitlines()
    assert "| the authors' noise | 1 | 49.0 | 49.0 | 49.0 | 51.5 | 51.5 | 51.5 |" in text[2]
    assert "-8.50 ± 31.77 | -6.00 ± 0.00 |" in text[2]
    assert "| scaled | 10 |" in text[9] and text[9].endswith("| - | - |")
    assert sum("points" in line for line in text) == 1  # they have no samples
    stability.draw(rows, tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 10_000
