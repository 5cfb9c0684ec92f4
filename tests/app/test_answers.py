"""The page shows what the model says of the photos, of whichever classes."""

import re

import pytest
from classifiers import classifier, pictures
from PIL import Image

from varprompt.app import answers as module
from varprompt.app.answers import Answers, Photos

OTHER = "crown\n\n  scythe \n# no class\n"


@pytest.fixture
def photos(tmp_path):
    """Seven files, two of which cannot be read."""
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for image, path in zip(pictures(5, seed=5), paths, strict=True):
        Image.fromarray((255 * image).byte().permute(1, 2, 0).numpy()).save(path)
    broken = tmp_path / "<b>roken.png"
    broken.write_bytes(b"no")
    return [*map(str, paths[:3]), str(broken), *map(str, paths[3:]), str(tmp_path / "gone.heic")]


def figures(page):
    """(percentages, uncertainties, whether unsure) of each picture."""
    for part in re.findall("<figure.*?</figure>", page, re.DOTALL):
        best = re.findall(r"<span>(.*?)</span><b>([\d.]+)&nbsp;%", part)
        numbers = re.findall(r"<td>(\w+)</td><td>([-\d.]+)</td>", part)
        yield best, dict(numbers), 'class="doubt"' in part


@pytest.mark.parametrize("classes", ["", "own", OTHER])
def test_numbers_are_the_model_s(photos, classes):
    page = Answers(classifier(), "pets")
    taken = page.take(photos)
    shown = page.show(taken, page.own_classes if classes == "own" else classes)
    model = classifier().with_classes(["crown", "scythe"]) if classes == OTHER else classifier()
    found = model.report([p for p in photos if re.search(r"\d.png", p)])
    said = list(figures(shown))
    assert len(said) == 5 and taken.names == [f"{i}.png" for i in range(5)]
    for i, (best, numbers, _) in enumerate(said):
        order = (-found.prob[i]).argsort()
        assert best == [(model.class_names_[c], f"{100 * found.prob[i, c]:.1f}") for c in order]
        wanted = {name: f"{values[i]:.3f}" for name, values in found.uncertainty._asdict().items()}
        assert numbers == wanted
    assert len({str(best) for best, _, _ in said}) > 1


def test_unsure_is_marked_where_something_is_known(photos):
    held = classifier().learned_.held_out
    sure, unsure = (Answers(classifier(), "pets", risk) for risk in (0.999, 1e-6))
    taken = sure.take(photos)
    assert [mark for *_, mark in figures(sure.show(taken, ""))] == [False] * 5
    shown = unsure.show(taken, "")
    assert [mark for *_, mark in figures(shown)] == [True] * 5
    assert f"{len(held.correct)} held-out images are too few" in shown and "5 unsure" in shown
    other = unsure.show(taken, OTHER)
    assert not any(mark for *_, mark in figures(other))
    assert "nothing is known of errors" in other


def test_other_classes_need_no_photo_again(photos, tmp_path):
    page = Answers(classifier(), "pets")
    taken, before = page.take(photos), {}
    for path in tmp_path.iterdir():
        path.unlink()
    for i in range(2 * module._REMEMBERED):
        before[i] = page.show(taken, f"crown\nn{i}")
    assert len(page._judges) == module._REMEMBERED
    assert before[0] == page.show(taken, "crown\nn0")  # its texts are forgotten, its noise is not
    assert before[0] != before[1]


def test_what_is_left_out_is_named(photos, monkeypatch):
    monkeypatch.setattr(module, "MOST", 6)
    page = Answers(classifier(), "pets")
    taken = page.take(photos)
    assert len(taken.problems) == 2 and taken.problems[1].startswith("1 more: 6 photos")
    shown = page.show(taken, "")
    assert "&lt;b&gt;roken.png: not a readable image" in shown and "<b>roken" not in shown
    assert photos[0].rpartition("/")[0] not in shown  # where the server keeps them


def test_no_photo_and_wrong_names():
    page = Answers(classifier(), "pets")
    assert page.take(None).names == []
    assert "Drop photos" in page.show(Photos(), "")
    for names in ("crown\ncrown", "<i>x</i> " * 99):
        shown = page.show(Photos(), names)
        assert 'role="alert"' in shown and "<i>x" not in shown
    assert "Drop photos" in page.show(Photos(), "")  # it goes on
