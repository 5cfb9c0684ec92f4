"""The benchmark of recipes: they are what they are called, and take turns."""

import dataclasses
import json

from benchmarks import recipes
from benchmarks._runs import preload


def test_every_recipe_is_timed_in_each_round(monkeypatch, tmp_path, capsys):
    preload()
    seen, original = [], recipes.trainer_of
    for name, recipe in recipes.RECIPES.items():
        options = (*recipe.options, "OPTIM.MAX_EPOCH", "1")
        monkeypatch.setitem(recipes.RECIPES, name, dataclasses.replace(recipe, options=options))

    def trainer_of(*given):
        trainer = original(*given)
        config = trainer.model.config
        seen.append((config.posterior, len(config.templates), config.n_samples, config.objective))
        return trainer

    monkeypatch.setattr(recipes, "trainer_of", trainer_of)
    file = tmp_path / "out.json"
    words = ["--dataset", "digits", "--repeats", "2", "--data", tmp_path, "--output", file]
    assert recipes.main([str(word) for word in words]) == 0
    one_round = [
        ("delta", 0, 10, "elbo"), ("mixture", 6, 10, "elbo"), ("mixture", 6, 10, "elbo"),
        ("delta", 0, 4, "elbo"), ("gaussian", 0, 4, "elbo"), ("gaussian", 0, 10, "iwae"),
        ("", 0, 1, "iwae"),
    ]  # fmt: skip
    assert seen == 3 * one_round
    found = json.loads(file.read_text())["recipes"]
    assert found.keys() == recipes.RECIPES.keys()
    assert all(len(row["cpu_s"]) == 2 and row["steps"] > 0 for row in found.values())
    assert "| MAP (Adam) | 1 |" in capsys.readouterr().out
