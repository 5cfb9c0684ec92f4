"""What mkdocs is told beyond mkdocs.yml: pages at the top of the repository, links, formulas.

The same files are read on a code host and in a checkout, so links are those of the repository:
``../DATASETS.md`` from docs/, ``docs/theory.md`` from the README. Here they become links of the
site, and what is not on it becomes plain text. Formulas become MathML, which needs no script.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {  # of the site -> files of the repository that are not in docs/
    "index.md": "README.md",
    "DATASETS.md": "DATASETS.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
FIGURES = sorted(  # that pages show
    path.relative_to(ROOT).as_posix() for path in ROOT.glob("benchmarks/results/*.png")
)
_LINK = re.compile(r"\[(?P<text>[^\]\[]*)\]\((?P<to>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
_CODE = re.compile(r"(^```.*?^```[^\n]*$|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
_DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_INLINE = re.compile(r"(?<![\\$\w])\$([^$\n]+?)\$(?![\w$])")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages at the top of the repository, and the figures."""
    for page, file in [*PAGES.items(), *zip(FIGURES, FIGURES, strict=True)]:
        files.append(File.generated(config, page, abs_src_path=str(ROOT / file)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links and formulas of one page, outside of code."""
    source = PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    on_site = {file: name for name, file in PAGES.items()} | {file: file for file in FIGURES}
    on_site |= {f"docs/{file.src_uri}": file.src_uri for file in files if file.src_uri not in PAGES}
    parts = _CODE.split(markdown)
    for i, text in enumerate(parts):
        if i % 2 == 0:  # the odd ones are code
            parts[i] = _with_formulas(text)
    text = "".join(parts)
    return _LINK.sub(lambda found: _link(found, source, page.file.src_uri, on_site), text)


def _link(found: re.Match[str], source: str, here: str, on_site: dict[str, str]) -> str:
    """A link of the repository as one of the site; its text alone if the target is not there."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found["to"]))
    if target in on_site:
        way = posixpath.relpath(on_site[target], posixpath.dirname(here) or ".")
        return f"[{found['text']}]({way}{found['anchor'] or ''})"
    if (ROOT / target).exists():
        return found["text"]
    return found[0]  # mkdocs says that it leads nowhere


def _with_formulas(text: str) -> str:
    text = _DISPLAY.sub(lambda m: f"\n<p>{convert(m[1].strip(), display='block')}</p>\n", text)
    return _INLINE.sub(lambda m: f"<span>{convert(m[1])}</span>", text)  # at a line's start, too
