"""The report as one web page."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import report
from varprompt.report.detail import Bin, Detail, detail_of, pooled
from varprompt.report.page.confusion import matrix
from varprompt.report.page.svg import ticks

EVIL = 'a</script><script>alert(1)</script>&"<b>'
VOID = {"meta", "input", "br"}


class Page(HTMLParser):
    """Text by section, the links, and whether every element is closed."""

    def __init__(self, file):
        super().__init__()
        self.open, self.links, self.tags, self.asked = [], [], [], []
        self.section, self.said = "", {}
        self.feed(file.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        self.tags.append((tag, known))
        self.links += [known["href"]] if tag == "a" else []
        self.asked += [known[k] for k in ("src", "srcset", "data") if k in known]
        self.asked += [known["href"]] if "href" in known and tag != "a" else []
        self.section = known["id"] if tag == "section" else self.section
        self.open += [tag] * (tag not in VOID)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said[self.section] = self.said.get(self.section, "") + data + " "


def detail(names, hits, seed=0):
    """Figures by class as results.json has them: of 10 images so many are right."""
    rows = {
        str(i): {"name": name, "accuracy": 10.0 * hit, "total": 10,
                 "predicted": {str(i): hit, str((i + 1 + seed) % len(names)): 10 - hit}}
        for i, (name, hit) in enumerate(zip(names, hits, strict=True))
    }  # fmt: skip
    points = [
        {"low": 40.0, "high": 60.0, "count": 4, "confidence": 50.0, "accuracy": 25.0 * (1 + seed)},
        {"low": 80.0, "high": 100.0, "count": 6 + seed, "confidence": 90.0, "accuracy": 100.0},
    ]
    return {"per_class": rows, "reliability": points}


@pytest.fixture
def page(output, tmp_path, capsys):
    """The page on three methods, one of which lacks a seed, one evil name, and a stray folder."""
    names = ["cat", EVIL, "dog"]
    for seed in (1, 2):
        output.halves("digits", f"VPT/c/seed{seed}", 80.0 + seed, 60.0, **detail(names, (9, 5, 8)))
        output.halves("digits", f"CoOp/c/seed{seed}", 70.0, 65.0 + seed)
    output.halves("dtd", "VPT/c/seed1", 50.0, 40.0, **detail(names, (1, 2, 3)))
    output.log("scratch", 45.0)
    file = tmp_path / "pages" / "über #1.html"
    assert report.main([str(output.root), "--html", str(file), "--format", "csv"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == str(file)
    return file


def test_everything_is_on_it(page, output):
    read = Page(page)
    assert list(read.said)[1:] == ["base2new", "missing", "classes", "runs"]
    assert "81.50" in read.said["base2new"]
    assert "MaPLe (published)" in read.said["base2new"]  # for dtd
    assert read.said["missing"].count("without 2") == 2
    assert read.said["missing"].count("missing") == 2 + 1  # CoOp on dtd, and the heading
    assert "scratch: left out" in read.said["missing"]
    assert "4 of 10 runs hold no figures by class" in read.said["classes"]
    assert "50.0" in read.said["classes"] and EVIL in read.said["classes"]
    assert f"cat taken for {EVIL}: 2 of 20" in read.said["classes"]
    assert re.search(r"digits +base classes +VPT +1 +81.00", read.said["runs"])


def test_it_asks_the_network_for_nothing(page):
    read = Page(page)
    text = page.read_text(encoding="utf-8")
    assert read.asked == [] and "url(" not in text and "@import" not in text
    assert not re.search(r"https?://", text)
    assert [tag for tag, _ in read.tags].count("script") == 1  # no name became one
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text


def test_links_lead_to_the_runs(page, output):
    links = [Path(page.parent, unquote(link)) for link in Page(page).links]
    assert {os.path.realpath(link) for link in links} == {
        os.path.realpath(file) for file in output.root.glob("base2new/**/results.json")
    }


def test_marks_stand_for_the_rows(page):
    """A mark a method with both halves, and hollow ones for what is published of dtd."""
    read, kinds = Page(page), {}
    for _, known in read.tags:
        kind = known.get("class") or ""
        if kind.startswith("mark "):
            kinds[kind] = kinds.get(kind, 0) + 1
    assert {"mark s0", "mark s1", "mark hollow"} == kinds.keys()


def test_it_needs_no_torch_and_nothing_is_half_written(output, tmp_path):
    output.halves("dtd", "VPT/c/seed1", 80.0, 60.0, **detail(["a", "b"], (1, 2)))
    file = tmp_path / "page.html"
    code = (
        "import sys, report\n"
        f"code = report.main([{str(output.root)!r}, '--html', {str(file)!r}])\n"
        "print(code, sorted({'torch', 'dassl', 'matplotlib'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]
    said = subprocess.check_output([sys.executable, "-c", code], cwd=root, text=True,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
    assert said.splitlines()[-1] == "0 []"
    assert [f.name for f in tmp_path.iterdir() if f.is_file()] == ["page.html"]


def test_where_nothing_can_be_written(output, tmp_path, capsys):
    output.halves("dtd", "VPT/c/seed1", 80.0, 60.0)
    assert report.main([str(output.root), "--html", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "directory" in err.splitlines()[-1]
    assert [f.name for f in tmp_path.iterdir()] == ["output"]


def test_few_shot_curves(output, tmp_path, capsys):
    for shots in (1, 4, 16):
        for seed in (1, 2):
            output.json(f"digits/VPT/c_{shots}shots/seed{seed}", 50.0 + shots + seed)
    output.json("ZeroshotCLIP/c/digits", 44.0)
    file = tmp_path / "page.html"
    assert report.main([str(output.root), "--html", str(file)]) == 0
    read = Page(file)
    curves = [known for tag, known in read.tags if tag == "polyline"]
    assert [c["class"].split()[0] for c in curves if "bar" not in c["class"]] == ["dashed", "curve"]
    (curve,) = (c for c in curves if c["class"].startswith("curve"))
    assert len(curve["points"].split()) == 3
    assert "images per class" in read.said["fewshot"]


def test_pooling_adds_counts():
    one, two = (detail_of(detail(["a", "b", "c"], hits, seed)) for seed, hits in
                enumerate([(9, 5, 8), (7, 6, 2)]))  # fmt: skip
    both = pooled([one, two])
    assert both.n_tests == 2 and both.classes[0].total == 20
    assert both.classes[0].predicted == {0: 16, 1: 1, 2: 3}
    assert both.classes[0].accuracy(0) == 80
    assert both.confusions()[0] == (2, 1, 8) and sum(n for *_, n in both.confusions()) == 23
    assert both.reliability[0] == Bin(40.0, 60.0, 8, 50.0, 37.5)
    assert both.reliability[1].count == 13


DAMAGE = [
    {"per_class": 3}, {"per_class": {"cat": 3}}, {"per_class": {"0": {"accuracy": 1.0}}},
    {"per_class": {"0": {"name": "cat", "predicted": {}}}},
    {"per_class": {"0": {"name": "cat", "predicted": {"0": -1}}}},
    {"per_class": {"0": {"name": "cat", "predicted": {"0": True}}}},
    {"per_class": {"0": {"name": 3, "predicted": {"0": 1}}}},
    {"per_class": {"x": {"name": "cat", "predicted": {"0": 1}}}},
    {"per_class": {"0": {"name": "cat", "predicted": {"²": 1}}}},
    {"reliability": [3]}, {"reliability": {"low": 1}}, {"reliability": [{"count": 1}]},
    {"reliability": [{"low": 0, "high": 7, "count": 1, "confidence": 3, "accuracy": 101}]},
    {"reliability": json.loads('[{"low":0,"high":7,"count":1,"confidence":NaN,"accuracy":1}]')},
]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGE, ids=str)
def test_what_cannot_be_is_absent(content):
    assert detail_of(content) == Detail()


@pytest.mark.parametrize("n", [3, 15, 61])
def test_every_field_of_a_matrix_is_drawn(n):
    names = [f"class {i}" for i in range(n)]
    found = detail_of(detail(names, [9] * n))
    drawn = matrix(found)
    assert drawn.count("<rect") + drawn.count("h1v1h-1z") == 2 * n
    assert drawn.count("<text") == (2 * n if n == 3 else 0)
    assert (drawn.count("taken for") == 2 * n) == (n < 61)
    assert "right l5" in drawn and "wrong l1" in drawn and "{" not in drawn


@pytest.mark.parametrize("limits", [(0, 100), (61.3, 64.9), (0.0, 0.01), (79.95, 80.1)])
def test_ticks_are_round_and_inside(limits):
    found = ticks(*limits)
    assert 2 <= len(found) <= 7 and limits[0] <= found[0] and found[-1] <= limits[1]
    steps = {round((b - a) / (found[1] - found[0]), 6) for a, b in zip(found, found[1:])}  # noqa: B905
    assert steps == {1.0}
