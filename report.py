"""Comparison tables and figures from a folder of results.

    python report.py output                        the tables, on the screen
    python report.py output --write tables         as Markdown, CSV, LaTeX and PNG in tables/

Runs are found by CoOp's folder layout, whoever wrote them: this project, CoOp, CoCoOp, MaPLe or the
authors' VPT code. Their results.json is read, or else their log.txt. In any other folder a
results.json of this project will do. Published figures stand in rows of their own and were not
measured here. A run that is missing is called so, and no average hides it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from varprompt.report.figures import write_figures
from varprompt.report.pipe import run_quietly
from varprompt.report.render import to_csv, to_latex, to_markdown, to_text
from varprompt.report.runs import find_runs
from varprompt.report.tables import Table, all_tables

PRINTED = {"markdown": to_markdown, "csv": to_csv, "latex": to_latex}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    new = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    new.add_argument("directory", help="OUTPUT of the scripts, or a folder in it")
    new.add_argument("--format", choices=["text", *PRINTED], default="text", help="on the screen")
    new.add_argument("--write", metavar="FOLDER", help="write all formats and the figures there")
    new.add_argument(
        "--tables", nargs="+", choices=["base2new", "cross_dataset", "domain", "fewshot"],
        help="default: all for which there are runs",
    )  # fmt: skip
    new.add_argument(
        "--seeds", nargs="+", type=int, default=[], help="expected seeds (default: all found)"
    )
    new.add_argument("--no-published", action="store_true", help="without the published figures")
    return new


def write_all(tables: list[Table], folder: Path) -> list[Path]:
    """Write report.md, and a CSV and a LaTeX file for each table, and the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {folder / "report.md": "\n".join(to_markdown(table) for table in tables)}
    for table in tables:
        texts[folder / f"{table.name}.csv"] = to_csv(table)
        texts[folder / f"{table.name}.tex"] = to_latex(table)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return [*texts, *write_figures(tables, folder)]


def nothing_found(directory: str, wanted: list[str] | None, known: list[str]) -> str:
    """Why there is nothing to print, and what there is or what to do."""
    what = f"the tables asked for ({', '.join(wanted)})" if wanted else "a table"
    if known:
        advice = f"there are results for {', '.join(known)}"
    else:
        advice = (
            "runs lie in folders such as base2new/train_base/DATASET/shots_16/TRAINER/CFG/seed1 "
            "(written by scripts/vpt/*.sh)"
        )
    return f"no results for {what} in {directory}; {advice}"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 when there was something to report."""
    args = parser().parse_args(argv)
    if not Path(args.directory).is_dir():
        print(f"{args.directory} is not a folder", file=sys.stderr)
        return 1
    found = find_runs(args.directory)
    for problem in found.problems:
        print(problem, file=sys.stderr)
    known = all_tables(found.runs, args.seeds, not args.no_published)
    tables = [table for table in known if not args.tables or table.name in args.tables]
    if not tables:
        print(nothing_found(args.directory, args.tables, [t.name for t in known]), file=sys.stderr)
        return 1
    if args.write:
        for path in write_all(tables, Path(args.write)):
            print(path, file=sys.stderr)
    on_screen = sys.stdout.isatty()
    for table in tables:
        if args.format == "text":
            width = shutil.get_terminal_size().columns if on_screen else None
            print(to_text(table, width, on_screen))
        else:
            print(PRINTED[args.format](table))
    return 0


if __name__ == "__main__":
    sys.exit(run_quietly(main))
