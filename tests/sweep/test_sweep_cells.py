"""Which runs a sweep has: those of the scripts, for each trainer and point of a grid."""

from itertools import product
from pathlib import Path

import pytest

from varprompt.errors import ConfigError
from varprompt.settings import scripts
from varprompt.sweep.cells import TABLES, Wanted, cells_of, point_name


def wanted(tmp_path, table="base2new", trainers=("VPT",), pairs=(), grid=None, **env):
    env = {"OUTPUT": str(tmp_path / "out"), "DATA": str(tmp_path), "SEEDS": "1 2"} | env
    env.setdefault("DATASETS", "dtd eurosat")
    return Wanted(table, trainers, env, pairs, grid or {})


def test_cells_are_the_calls_of_the_scripts(tmp_path):
    env = {"OUTPUT": str(tmp_path / "out"), "DATA": str(tmp_path), "TRAINER": "CoOp"}
    cells, notes = cells_of(wanted(tmp_path, trainers=["CoOp"], pairs=["OPTIM.LR", "0.1"]))
    assert notes == [] and len(cells) == 2 * 2 * 2
    train, _ = scripts.train_arguments("base2new_train", ["dtd", "1", "OPTIM.LR", "0.1"], env)
    test, _ = scripts.train_arguments(
        "base2new_test", ["dtd", "1", "OPTIM.LR", "0.1"], env, need_model=False
    )
    assert [list(cell.argv) for cell in cells[:2]] == [train, test]
    assert cells[1].needs == cells[0].name and cells[0].needs == ""
    assert cells[1].flag("--model-dir") == str(cells[0].folder)


@pytest.mark.parametrize("table", TABLES)
def test_every_cell_is_of_its_own_and_lies_where_it_says(table, tmp_path):
    trainers = ["ZeroshotCLIP"] if table == "zeroshot" else ["VPT", "CoCoOp", "ZeroshotCLIP"]
    cells, _ = cells_of(wanted(tmp_path, table, trainers))
    names = [cell.name for cell in cells]
    assert len({cell.folder for cell in cells}) == len(set(names)) == len(cells) > 0
    for cell in cells:
        assert cell.folder.is_relative_to(tmp_path / "out") and Path(cell.flag("--root")).is_dir()
        assert not cell.needs or names.index(cell.needs) < names.index(cell.name)


def test_zero_shot_beside_trained_prompts_tests_the_same_classes(tmp_path):
    cells, _ = cells_of(wanted(tmp_path, trainers=["ZeroshotCLIP"]))
    assert [cell.argv[-1] for cell in cells] == ["base", "new"] * 2
    assert all("--seed" not in cell.argv for cell in cells)


def test_a_grid_has_every_combination_with_the_same_seeds(tmp_path):
    grid = {"TRAINER.VPT.L": ["1", "5"], "TRAINER.VPT.SAMPLER": ["gaussian", "antithetic", "sobol"]}
    cells, _ = cells_of(wanted(tmp_path, grid=grid, DATASETS="dtd"))
    assert len(cells) == 6 * 2 * 2
    by_point = {}
    for cell in cells:
        assert dict(zip(cell.argv[-4::2], cell.argv[-3::2], strict=True)) == cell.point
        assert cell.folder.is_relative_to(tmp_path / "out" / point_name(cell.point))
        by_point.setdefault(tuple(cell.point.values()), []).append(cell.flag("--seed"))
    assert set(by_point) == set(product(*grid.values()))
    assert len(set(map(tuple, by_point.values()))) == 1


def test_the_name_of_a_point_is_a_folder():
    point = {"TRAINER.VPT.CTX_INIT": "a photo/of", "OPTIM.LR": "1e-3"}
    assert point_name(point) == "CTX_INIT-a~photo~of_LR-1e-3"


def test_kinds_are_the_same_but_for_seed_and_folders(tmp_path):
    cells, _ = cells_of(wanted(tmp_path))
    assert len({cell.kind for cell in cells}) == 2 * 2  # data sets, train and test
    assert not any(str(tmp_path / "out") in " ".join(cell.kind) for cell in cells)


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    with pytest.raises(ConfigError) as error:
        cells_of(wanted(tmp_path, trainers=["VPT", "VTP"], DATASETS="dtdd dtd", SEEDS="x"))
    said = str(error.value)
    assert "did you mean 'dtd'?" in said and "SEED is 'x'" in said and "TRAINER is 'VTP'" in said
    assert len(error.value.problems) == 3
