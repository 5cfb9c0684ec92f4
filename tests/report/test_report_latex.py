"""The tables for papers."""

import re
import shutil
import subprocess

import pytest
from outputs import SAMPLE

from varprompt.report.cells import Cell
from varprompt.report.latex import escape, to_latex
from varprompt.report.published import ELEVEN
from varprompt.report.tables import Row, Table


def test_latex_is_balanced_and_escaped():
    text = to_latex(SAMPLE)
    assert r"\caption{A \& B.}\label{tab:base2new}" in text and r"\textbf{Set\_1}" in text
    assert r"VPT & $80.12_{\pm 1.50}$ & $70.00^{(1)}$ \\" in text
    assert r"VPT & missing & $60.00_{\pm 0.25}$ \\" in text
    assert "(1) 1 of 3 seeds.\\par\nnote $\\pm$ one\\par\n" in text
    assert r"\textit{CoOp (published)} & $\mathbf{82.00}$ & - \\" in text
    assert text.count("{") == text.count("}") and text.count("$") % 2 == 0
    body = [line for line in text.splitlines() if line.endswith(r"\\") and "caption" not in line]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {2}
    assert escape("a_b & 5 % ±") == r"a\_b \& 5 \% $\pm$"
    assert escape("\\x^~<") == r"\textbackslash{}x\textasciicircum{}\textasciitilde{}\textless{}"
    assert "longtable" not in text and r"\begin{longtable}" in to_latex(SAMPLE, long=True)


def test_best_of_a_column_is_bold():
    def values(*numbers, **more):
        return [Cell(number, **more) for number in numbers]

    rows = [
        Row("", "a", values(80.001, 70.0, 9.0)),
        Row("", "b", values(80.004, 60.0, 5.0)),
        Row("", "c", values(90.0, 50.0, 1.0, note="1 of 2 sets", partial=True)),
        Row("", "d", [Cell(note="missing")] * 3),
    ]
    lower = frozenset({"ECE new"})
    text = to_latex(Table("t", "T", ["Base", "New", "ECE new"], rows, lower=lower))
    assert r"a & $\mathbf{80.00}$ & $\mathbf{70.00}$ & $9.00$" in text
    assert r"b & $\mathbf{80.00}$ & $60.00$ & $\mathbf{5.00}$" in text
    assert r"c & $90.00^{(1)}$" in text and "d & missing & missing & missing" in text
    assert r"\mathbf" not in to_latex(
        Table("t", "T", ["Base", "New", "ECE new"], rows[:1], lower=lower)
    )


METHODS = ("VPT/vit_b16_c4_ep10", "VPT/vit_b16_c4_ep50", "CoOp/c", "CoCoOp/c")
PAGES = [
    r"\documentclass{article}",
    r"\documentclass[10pt,twocolumn]{article}\usepackage[margin=0.85in]{geometry}",
]


def compiled(folder, name, text, page):
    """What pdflatex says."""
    uses = [line.removeprefix("% ") for line in text.splitlines() if line.startswith(r"% \use")]
    document = rf"{page}{''.join(uses)}\begin{{document}}{text}\end{{document}}"
    (folder / f"{name}.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", f"{name}.tex"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    return run.stdout


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
@pytest.mark.parametrize("page", PAGES, ids=["one column", "two columns"])
@pytest.mark.parametrize("leave_out", [0, 9])
def test_latex_compiles_and_fits_its_pages(output, tmp_path, leave_out, page):
    for i, tail in enumerate(METHODS):
        for dataset in list(ELEVEN)[: 11 - leave_out + i]:
            for seed in (1, 2, 3):
                output.halves(dataset, f"{tail}/seed{seed}", 70.0 + seed, 60.0)
                output.json(f"evaluation/{tail}_16shots/{dataset}/seed{seed}", 60.0 + seed)
        output.json(f"evaluation/{tail}_16shots/imagenet_a/seed{seed}", 60.0)
    tables = output.tables()
    assert set(tables) == {"base2new", "cross_dataset", "domain"}
    for name, table in tables.items():
        said = compiled(tmp_path, name, to_latex(table), page)
        assert "Float too large" not in said, name
        widths = re.findall(r"Overfull \\hbox \((.+?)pt too wide\)", said)
        assert all(float(width) < 5 for width in widths), (name, widths)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_what_no_page_holds_goes_on_over_pages(tmp_path):
    rows = [Row("", f"method {i}", [Cell(float(i % 90))] * 2) for i in range(150)]
    text = to_latex(Table("t", "T", ["Base", "New"], rows))
    assert r"\begin{longtable}" in text
    assert "Overfull" not in compiled(tmp_path, "t", text, PAGES[0])
