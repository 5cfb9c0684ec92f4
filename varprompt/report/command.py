"""Comparison tables and figures from a folder of results.

    python report.py output                        the tables, on the screen
    python report.py output --write tables         as Markdown, CSV, LaTeX and PNG in tables/
    python report.py output --columns calibration rejection     how far to trust probabilities
    python report.py output --html report.html     as one web page, with figures by class

Runs are found by CoOp's folder layout, whoever wrote them: this project, CoOp, CoCoOp, MaPLe or the
authors' VPT code. Their results.json is read, or else their log.txt. In any other folder a
results.json of this project will do. Published figures stand in rows of their own and were not
measured here. A run that is missing is called so, and no average hides it. Runs whose recorded data
or CLIP weights differ are never compared: what is left out is named, with the reason.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ..common.characters import only_ascii, printable
from ..common.console import out, say
from ..errors import ConfigError
from ..settings.flags import Parser, given_path
from .latex import to_latex
from .render import to_csv, to_markdown, to_text
from .runs import Found, find_runs
from .scores import COLUMNS, score_tables
from .tables import Table, all_tables

NAMES = ("base2new", "cross_dataset", "domain", "fewshot")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    new = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    new.add_argument("directory", help="OUTPUT of the scripts, or a folder in it")
    new.add_argument(
        "--format", choices=["text", "markdown", "csv", "latex"], default="text",
        help="on the screen",
    )  # fmt: skip
    new.add_argument(
        "--write", metavar="FOLDER", type=given_path, help="write all formats and the figures there"
    )
    new.add_argument(
        "--html", metavar="FILE", type=given_path,
        help="write one page that needs no network: tables that sort, figures, accuracy by class, "
        "reliability, confusions, what is missing, links to the runs",
    )  # fmt: skip
    new.add_argument(
        "--tables", nargs="+", choices=NAMES, help="default: all for which there are runs"
    )
    new.add_argument(
        "--columns", nargs="+", choices=COLUMNS, default=["accuracy"], metavar="NAME",
        help=f"what the tables show: {', '.join(COLUMNS)}; the last two in tables and figures of "
        "their own (default: accuracy)",
    )  # fmt: skip
    new.add_argument(
        "--seeds", nargs="+", type=int, default=[], help="expected seeds (default: all found)"
    )
    new.add_argument("--no-published", action="store_true", help="without the published figures")
    new.add_argument(
        "--longtable", action="store_true",
        help="LaTeX that goes on over pages (not in two columns); default: tabular",
    )  # fmt: skip
    new.add_argument(
        "--any-root", action="store_true",
        help="data sets under another DATASET.ROOT are the same (for results of version 0.1.0, "
        "which do not record the content of the images)",
    )  # fmt: skip
    return new


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when there was something to report.

    Raises:
        ConfigError: there was not.
        OSError: the tables cannot be written.
    """
    args = parser().parse_args(argv)
    if not os.path.isdir(args.directory):
        raise ConfigError(f"{args.directory} is not a folder; give OUTPUT of the scripts")
    found = find_runs(args.directory, args.any_root)
    for line in [*found.problems, found.summary()]:
        if line:
            say(line)
    known = all_tables(found.runs, args.seeds, not args.no_published)
    asked = [table for table in known if not args.tables or table.name in args.tables]
    scores = score_tables(found.runs, args.columns, args.seeds, not args.no_published)
    tables = asked * ("accuracy" in args.columns) + scores
    if not tables:
        raise ConfigError(nothing_found(args, [t.name for t in known]))
    latex = partial(to_latex, long=args.longtable)
    for table in tables:
        table.notes += found.note()
    write(args, tables, found)
    on_screen = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_screen else None
    printed: dict[str, Callable[[Table], str]] = {
        "text": partial(to_text, width=width, color=on_screen, ascii_only=only_ascii()),
        "markdown": to_markdown, "csv": to_csv, "latex": latex,
    }  # fmt: skip
    for table in tables:
        out(printed[args.format](table))
    return 0


def write(args: argparse.Namespace, tables: list[Table], found: Found) -> None:
    """The files that were asked for; their names go to standard error.

    Raises:
        OSError: they cannot be written.
    """
    written: list[Path] = []
    if args.write:
        from .figures import write_figures
        from .score_figures import write_score_figures

        folder = args.write
        written += write_all(tables, folder, found, args.longtable)
        written += write_figures(tables, folder)
        written += write_score_figures(found.runs, tables, folder)
    if args.html:
        from ..common.files import write_atomic
        from .page.build import to_html

        page = to_html(tables, found, args.html, args.seeds).encode(errors="backslashreplace")
        write_atomic(args.html, lambda file: file.write(page))
        written.append(args.html)
    for path in written:
        say(printable(path))


def write_all(tables: list[Table], folder: Path, found: Found, long: bool = False) -> list[Path]:
    """Write report.md, and a CSV and a LaTeX file for each table.

    Raises:
        OSError: `folder` cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(to_markdown(table) for table in tables)
    if found.problems:
        text += "\n## Left out\n\n" + "".join(f"- {line}\n" for line in found.problems)
    texts = {folder / "report.md": text}
    for table in tables:
        texts[folder / f"{table.name}.csv"] = to_csv(table)
        texts[folder / f"{table.name}.tex"] = to_latex(table, long)
    for path, content in texts.items():
        path.write_bytes(content.encode(errors="backslashreplace"))
    return list(texts)


def nothing_found(args: argparse.Namespace, known: list[str]) -> str:
    """Why there is nothing to print, and what there is or what to do."""
    directory, wanted = args.directory, args.tables
    if known and "accuracy" not in args.columns:
        return (
            f"no figures of {' and '.join(args.columns)} in {directory}: its results are logs, or "
            "of an earlier version; test the models again (--eval-only)"
        )
    what = f"the tables asked for ({', '.join(wanted)})" if wanted else "a table"
    if known:
        advice = f"there are results for {', '.join(known)}"
    else:
        advice = (
            "runs lie in folders such as base2new/train_base/DATASET/shots_16/TRAINER/CFG/seed1 "
            "(written by scripts/vpt/*.sh)"
        )
    return f"no results for {what} in {directory}; {advice}"
