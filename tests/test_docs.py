"""The documentation: what is generated is current, links lead somewhere, blocks of Python run."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
CODE = re.compile(r"^```.*?^```[^\n]*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page):
    """What the headings of a page are linked by."""
    heads = re.findall(r"^#+ (.*)$", CODE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_page_of_options_is_current():
    """Every option stands on it, with the default and limits that the program checks."""
    module = load("options_page")
    text = module.page()
    assert text == module.PAGE.read_text(encoding="utf-8"), "run python scripts/options_page.py"
    assert all(f"`TRAINER.{node}." in text for node in ("KGCOOP", "VPT_MAPLE", "ZEROSHOT"))
    assert "| `TRAINER.VPT.L` | `10` | 1 to 100000 | samples in training |\n" in text
    from varprompt.settings.options import OPTIONS

    assert [key for key in OPTIONS if f"| `{key}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    broken = []
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        to, _, anchor = link.partition("#")
        target = page.parent / to if to else page
        if "://" in link or link.startswith("mailto:"):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_python_of_the_api_page_runs():
    text = (ROOT / "docs/python-api.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        checked = f"{block}\nassert (epistemic > 0).all() and (epistemic < total).all()\n"
        done = subprocess.run([sys.executable, "-c", checked], capture_output=True, text=True,
                              cwd=ROOT)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")


def test_variables_of_the_environment_are_all_explained():
    page = (ROOT / "docs/environment.md").read_text(encoding="utf-8")
    files = [*ROOT.glob("varprompt/**/*.py"), *ROOT.glob("scripts/*.sh")]
    found = set()
    for file in files:
        found |= set(re.findall(r"\bVARPROMPT_[A-Z_]+\b", file.read_text(encoding="utf-8")))
    assert len(found) >= 3 and [name for name in sorted(found) if f"`{name}`" not in page] == []


def test_the_menu_names_pages_that_exist():
    hooks = load("site_hooks")
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    names = re.findall(r"- ([\w-]+\.md)$", text, re.MULTILINE)
    assert len(names) > 10 and len(set(names)) == len(names)
    for name in names:
        assert (ROOT / "docs" / name).is_file() or (ROOT / hooks.PAGES[name]).is_file()
    assert yaml.safe_load(text)["strict"] is True


def test_links_and_formulas_of_the_site():
    hooks = load("site_hooks")
    site = {"README.md": "index.md", "docs/theory.md": "theory.md"}

    def linked(text, source, here):
        return hooks._LINK.sub(lambda found: hooks._link(found, source, here, site), text)

    assert linked("[t](docs/theory.md#x)", "README.md", "index.md") == "[t](theory.md#x)"
    assert linked("[r](../README.md)", "docs/theory.md", "theory.md") == "[r](index.md)"
    assert linked("[c](../configs/recipes.yaml)", "docs/theory.md", "theory.md") == "c"
    assert linked("[no](nowhere.md)", "docs/theory.md", "theory.md") == "[no](nowhere.md)"
    assert linked("[w](https://a.org/b)", "README.md", "index.md") == "[w](https://a.org/b)"
    assert "<math" in hooks._with_formulas(r"so $\frac12 x$ is") and "$" not in (
        hooks._with_formulas("a\n$$x\n= y$$\nb")
    )
    assert hooks._with_formulas("costs $DATA and $OUTPUT") == "costs $DATA and $OUTPUT"
