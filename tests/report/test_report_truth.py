"""What differs in data, weights or settings is never shown as if it were comparable."""

import json

import pytest
from outputs import BASE, NEW, cells, says
from payloads import called

import parse_test_res
import report
from varprompt.report.calibration import expected_ece
from varprompt.report.runs import find_runs
from varprompt.report.tables import all_tables

RUN = f"{BASE.format('digits')}/VPT/c"


def own(path, root="/data", **more):
    """What results.json of version 0.1.0 says of a run on a data set of one's own."""
    said = says("Folder", path=path, **more)
    said["config"] = said["config"].replace("  SOURCE", f"  ROOT: {root}\n  SOURCE")
    return said | {"n_total": 20, "per_class": {"cat": {"accuracy": 1.0, "total": 20}}}


def known(images="aa", classes=("cc",), **more):
    """What later ones record besides."""
    return {"identity": {"test_images": images, "class_names": list(classes)} | more}


def tables(output):
    found = find_runs(output.root)
    return {table.name: table for table in all_tables(found.runs)}, found.problems


def test_own_data_sets_are_called_by_their_folders(output):
    for seed, path in enumerate(("my/cats", "other/dogs", "birds/"), 1):
        output.json(f"custom/VPT/c_1shots/seed{seed}", 50.0 + seed, **own(path, seed=seed))
    table = tables(output)[0]["fewshot"]
    for name, mean in (("cats", 51.0), ("dogs", 52.0), ("birds", 53.0)):
        assert cells(table, name, "VPT")["1 shot"].mean == mean


def test_folders_of_one_name_get_as_much_of_the_path_as_needed(output):
    for seed, path in enumerate(("a/x/images", "b/x/images", "/c/images", "d/cats/split.json"), 1):
        output.json(f"custom/VPT/c_1shots/seed{seed}", 50.0 + seed, **own(path, seed=seed))
    rows = {row.section for row in tables(output)[0]["fewshot"].rows}
    assert rows >= {"a/x/images", "b/x/images", "c/images", "cats"}


def test_no_official_name_is_taken(output):
    output.json("custom/CoOp/c_1shots/seed1", 50.0, **own("my/dtd", trainer="CoOp"))
    sections = {row.section for row in tables(output)[0]["fewshot"].rows}
    assert "dtd (own)" in sections and "DTD" not in sections


def test_equal_content_in_two_folders_is_one_data_set(output):
    for seed, path in enumerate(("here/cats", "there/cats"), 1):
        output.json(f"custom/VPT/c_1shots/seed{seed}", 50.0, **own(path, seed=seed), **known())
    built, problems = tables(output)
    assert cells(built["fewshot"], "cats", "VPT")["1 shot"].seeds == 2 and not problems


ODD = {
    "number of test images is 21": {"n_total": 21},
    "class names are not those": {"per_class": {"dog": {"accuracy": 1.0, "total": 20}}},
    "split is val, not test": {"split": "val"},
}


@pytest.mark.parametrize("reason", ODD)
def test_the_odd_one_out_is_left_out(reason, output, capsys):
    for seed in (1, 2, 3):
        said = own("cats", seed=seed) | {"split": "test"}
        said |= ODD[reason] | {"seed": 3} if seed == 3 else {}
        output.json(f"custom/VPT/c_1shots/seed{seed}", 50.0 + seed, **said)
    built, problems = tables(output)
    assert len(problems) == 1 and f"seed3/results.json: left out, its {reason}" in problems[0]
    assert cells(built["fewshot"], "cats", "VPT")["1 shot"].seeds == 2
    code, out, err = called(parse_test_res.main, [output.root / "custom/VPT/c_1shots"], capsys)
    assert code == 0 and out.count("file: ") == 2 and f"seed3/log.txt: its {reason}" in err


def test_another_root_is_another_data_set_unless_told(output, capsys):
    for seed, root in ((1, "/a"), (2, "/a"), (3, "/b")):
        said = says(seed=seed)
        said["config"] = said["config"].replace("PATH: ''", f"ROOT: {root}")
        output.json(f"digits/VPT/c_1shots/seed{seed}", 50.0 + seed, **said)
        output.json(f"custom/VPT/c_1shots/seed{seed}", 60.0, **own("cats", root, seed=seed))
    code, out, err = called(report.main, [output.root], capsys)
    reason = "left out, its folder of the data is /b, not /a as in "
    assert reason in err and "(--any-root, if it holds the same)" in err
    assert "a/cats" in out and "b/cats" in out
    _, out, err = called(parse_test_res.main, [output.root / "digits/VPT/c_1shots"], capsys)
    assert out.count("file: ") == 2 and "folder of the data is /b, not /a" in err
    code, out, err = called(report.main, [output.root, "--any-root"], capsys)
    assert err == "" and "b/cats" not in out


CONTENT = {
    "test images are not those": known("bb"),
    "class names are not those": known(classes=["dd"]),
    "CLIP weights": known() | {"weights_sha256": "ef" * 32},
}


@pytest.mark.parametrize("reason", CONTENT)
def test_recorded_content_decides(reason, output, capsys):
    """Not the folder, which may be another on another machine."""
    for seed in (1, 2, 3):
        said = says(seed=seed, part="base", shots=16) | {"subsample_classes": "base"}
        said |= known() | {"weights_sha256": "ab" * 32} | (CONTENT[reason] if seed == 2 else {})
        said["config"] = said["config"].replace("PATH: ''", f"ROOT: /disk{seed}")
        output.json(f"{RUN}/seed{seed}", 50.0 + seed, **said)
    built, problems = tables(output)
    assert len(problems) == 1 and f"seed2/results.json: left out, its {reason}" in problems[0]
    assert cells(built["base2new"], "digits", "VPT")["Base"].mean == 52.0
    _, out, err = called(parse_test_res.main, [output.root / RUN], capsys)
    assert out.count("file: ") == 2 and f"its {reason}" in err


def test_methods_trained_on_other_images_are_not_compared(output):
    for name, train in (("VPT/c", "aa"), ("CoOp/c", "aa"), ("CoCoOp/c", "bb")):
        said = {"trainer": name.split("/")[0], "seed": 1} | known(train_images=train)
        output.json(f"{BASE.format('digits')}/{name}/seed1", 50.0, **said)
        output.json(f"{BASE.format('digits')}/{name}/seed2", 50.0, **said | {"seed": 2})
    problems = tables(output)[1]
    assert len(problems) == 2
    assert all("CoCoOp" in line and "training images are not those of" in line for line in problems)


def test_logs_alone_record_nothing_and_differ_from_nothing(output):
    output.json(f"{RUN}/seed2", 50.0, **known())
    output.log(f"{RUN}/seed1", 60.0, "Finish training")
    built, problems = tables(output)
    assert cells(built["base2new"], "digits", "VPT")["Base"].mean == 55.0 and not problems


@pytest.mark.parametrize(
    ("folder", "dataset"), [("dtd", "Digits"), ("digits", "Chalk"), ("eurosat", "Folder"),
                            ("imagenet", "ImageNetV2")],
)  # fmt: skip
def test_results_under_the_name_of_another_data_set(folder, dataset, output):
    output.json(f"{folder}/VPT/c_1shots/seed1", 50.0, **says(dataset))
    found = find_runs(output.root)
    expected = f"dataset is {dataset!r} but its path says {folder!r}"
    assert found.runs == [] and expected in found.problems[0]


def test_folder_names_of_ones_own_may_be_anything(output):
    output.json("textures/VPT/c_1shots/seed1", 50.0, **says("DescribableTextures"))
    output.json("plants/VPT/c_1shots/seed1", 50.0, **says("PlantVillage"))
    assert [run.dataset for run in find_runs(output.root).runs] == ["plants", "textures"]


@pytest.mark.parametrize("shots", [-1, 0])
def test_all_images_are_a_column_of_the_same_method(shots, output):
    output.json("digits/VPT/c_16shots/seed1", 50.0, **says() | {"shots": 16})
    output.json(f"digits/VPT/c_{shots}shots/seed1", 60.0, **says() | {"shots": shots})
    output.json("elsewhere", 62.0, **says(seed=2) | {"shots": shots})
    table = tables(output)[0]["fewshot"]
    assert table.columns[-1] == "all images" and "-1 shots" not in table.columns
    row = cells(table, "digits", "VPT")
    assert (row["16 shots"].mean, row["all images"].mean) == (50.0, 61.0)
    assert [row.method for row in table.rows] == ["VPT"]


def test_tests_on_the_base_classes_are_read_as_what_they_are(output):
    place = f"{BASE.format('digits').replace('train_base', 'test_base')}/VPT/c/seed1"
    output.json(place, 50.0, **says(part="base") | {"subsample_classes": "base", "shots": 16})
    output.json(f"{NEW.format('digits')}/VPT/c/seed1", 60.0)
    built, problems = tables(output)
    row = cells(built["base2new"], "digits", "VPT")
    assert (row["Base"].mean, row["New"].mean, problems) == (50.0, 60.0, [])
    output.json(f"{RUN}/seed1", 50.0)  # the training run tested the same
    assert tables(output)[1] == []
    output.json(f"{RUN}/seed1", 51.0)
    assert "same run as" in tables(output)[1][0]


def test_runs_outside_of_the_layout_are_called_by_what_tells_them_apart(output):
    for i, rate in enumerate((0.1, 0.2)):
        output.json(f"run{i}", 50.0, **says(lr=rate))
    output.json("machine", 50.0, **says(seed=2, lr=0.1, more=1))
    names = {row.method for row in tables(output)[0]["fewshot"].rows}
    assert names == {"VPT LR 0.1", "VPT LR 0.2"}


def test_settings_that_differ_between_seeds_are_said(output):
    output.json("digits/VPT/c_1shots/seed1", 50.0, **says(lr=0.1))
    output.json("digits/VPT/c_1shots/seed2", 60.0, **says(lr=0.2, seed=2))
    notes = tables(output)[0]["fewshot"].notes
    assert "Seeds of VPT on digits (1 shot) differ in OPTIM.LR." in notes


def test_epochs_chosen_on_the_test_images_are_said(output):
    output.json("digits/VPT/c_1shots/seed1", 50.0, **says() | {"selected_on": "test"})
    notes = tables(output)[0]["fewshot"].notes
    assert "1 of 1 runs chose their epoch on the test images." in notes


def test_calibration_errors_of_small_test_sets_are_marked(output):
    output.halves("digits", "VPT/c/seed1", 50.0, 72.0, ece=15.6, n_total=136)
    output.halves("chalk", "VPT/c/seed1", 50.0, 72.0, ece=15.6, n_total=2000)
    table = tables(output)[0]["base2new"]
    assert cells(table, "digits", "VPT")["ECE new"].note == "small test set"
    assert cells(table, "chalk", "VPT")["ECE new"].note == ""
    (note,) = (note for note in table.notes if "ECE" in note)
    assert "digits (136 images) at most about 11.9." in note and "chalk" not in note
    output.halves(
        "digits", "VPT/c/seed1", 50.0, 72.0, ece=15.6, n_total=136, ece_if_calibrated={"mean": 9.9}
    )
    (note,) = (note for note in tables(output)[0]["base2new"].notes if "ECE" in note)
    assert "digits (136 images) 9.9." in note


@pytest.mark.parametrize(("sharpness", "n_images"), [(1.0, 136), (3.0, 136), (1.0, 1000)])
def test_bound_of_the_error_of_a_calibrated_classifier(sharpness, n_images):
    """Labels are drawn from the predicted probabilities themselves."""
    import torch

    from varprompt.uncertainty import ece

    generator = torch.Generator().manual_seed(0)
    errors, accuracies = [], []
    for _ in range(200):
        logits = sharpness * torch.randn(n_images, 10, generator=generator, dtype=torch.float64)
        confidence, predicted = logits.softmax(1).max(1)
        labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
        correct = (labels == predicted).double()
        errors.append(100 * ece(confidence, correct).item())
        accuracies.append(100 * correct.mean().item())
    bound = expected_ece(sum(accuracies) / len(accuracies), n_images)
    assert bound / 3 < sum(errors) / len(errors) < bound


def test_what_is_left_out_is_in_the_written_report(output, tmp_path):
    output.json(f"{RUN}/seed1", 50.0)
    output.json(f"{RUN}/seed2", 101.0)
    assert report.main([str(output.root), "--write", str(tmp_path / "tables")]) == 0
    text = (tmp_path / "tables/report.md").read_text()
    assert "## Left out" in text and "its accuracy is 101.0, no number from 0 to 100" in text
    assert json.loads((output.root / RUN / "seed2/results.json").read_text())["accuracy"] == 101.0


def test_a_copied_result_is_no_second_run(output, capsys):
    """Of a folder that was copied for safety, or to start from."""
    said = says(date="2026-11-28T01:00:00+00:00")
    runs = "digits/VPT/c_1shots"
    for place in (f"{runs}/seed1", f"{runs}/seed1 (copy)", "digits/VPT/d_1shots/seed1"):
        output.json(place, 70.0, **said)
    output.json(f"{runs}/seed2", 80.0, **says(seed=2, date="2026-11-28T01:00:00+00:00"))
    found = find_runs(output.root)
    assert len(found.runs) == 2 and sum("is a copy of" in line for line in found.problems) == 2
    code, out, err = called(parse_test_res.main, [str(output.root / runs)], capsys)
    assert code == 0 and out.count("file: ") == 2 and "is a copy of" in out + err
