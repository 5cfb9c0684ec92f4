"""Tells which data sets of the CoOp protocol are there, complete and readable."""

import argparse
import contextlib
import io
import os
import sys
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool

from dassl.config import get_cfg_default
from tabulate import tabulate
from tqdm import tqdm

from varprompt.config import extend_cfg
from varprompt.errors import DataError
from varprompt.images import read_rgb

from . import COOP_DATASETS, Folder
from .base import ATTENTION, FewShotDataset

HEADERS = ("data set", "folder", "classes", "train", "val", "test", "state")


@dataclass
class Finding:
    """What was found of one data set."""

    kind: type[FewShotDataset]
    dataset: FewShotDataset | None = None
    gaps: list[str] = field(default_factory=list)

    def row(self) -> list[str]:
        """Return the line of the table."""
        cells = ["-"] * 4
        if self.dataset:
            parts = (self.dataset.train_x, self.dataset.val, self.dataset.test)
            got = [len(self.dataset.classnames), *(len(part or ()) for part in parts)]
            wanted = [self.kind.n_classes, *self.kind.sizes]
            cells = [
                f"{g:,}" if w in (None, g) else f"{g:,} of {w:,}"
                for g, w in zip(got, wanted, strict=True)
            ]
        state = "complete" if not self.gaps else "see below" if self.dataset else "missing"
        return [self.kind.__name__, self.kind.dataset_dir, *cells, state]


def config_for(data: str):
    """Return a config that asks for all images under ``data``."""
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.DATASET.ROOT = cfg.DATASET.PATH = os.path.abspath(os.path.expanduser(data))
    return cfg


def inspect(kind: type[FewShotDataset], data: str) -> Finding:
    """Load one data set and note every gap with the step that closes it."""
    finding, log = Finding(kind), io.StringIO()
    try:
        with contextlib.redirect_stdout(log):
            finding.dataset = kind(config_for(data))
    except DataError as error:
        folder = os.path.join(data, kind.dataset_dir)
        finding.gaps = [
            f"get {name} from {source} into {folder}"
            for name, source in kind.sources.items()
            if kind.dataset_dir and not os.path.exists(os.path.join(folder, name))
        ]
        finding.gaps.append(str(error))
    finding.gaps += [line for line in log.getvalue().splitlines() if line.startswith(ATTENTION)]
    return finding


def decode_all(finding: Finding) -> None:
    """Decode every image and note how many cannot be read, and the first of them."""
    parts = (finding.dataset.train_x, finding.dataset.val, finding.dataset.test)
    paths = sorted({datum.impath for part in parts for datum in part or ()})
    with ThreadPool() as pool:
        results = pool.imap(_problem, paths, chunksize=16)
        bar = tqdm(results, finding.kind.__name__, len(paths), unit="image")
        broken = [problem for problem in bar if problem]
    if broken:
        finding.gaps.append(f"{len(broken)} unreadable images; get again the first: {broken[0]}")


def _problem(path: str) -> str:
    try:
        read_rgb(path)
    except DataError as error:
        return str(error)
    return ""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Return the arguments; ``kinds`` holds the classes of the data sets asked for."""
    by_name = {kind.__module__.rpartition(".")[2]: kind for kind in (*COOP_DATASETS, Folder)}
    parser = argparse.ArgumentParser(
        prog="python -m datasets.check",
        description=__doc__,
        epilog="Exit code: 0 if everything asked for is complete, else 1. "
        "DATASETS.md says how to get each data set.",
    )
    parser.add_argument("data", help="folder of the data sets (--root); for 'folder' DATASET.PATH")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help=f"data sets, all of CoOp's if left out: {', '.join(by_name)}",
    )
    parser.add_argument("--images", action="store_true", help="decode every image (slow)")
    args = parser.parse_args(argv)
    for kind in tuple(by_name.values()):
        by_name[kind.__name__.lower()] = kind
    unknown = [name for name in args.names if name.lower() not in by_name]
    if unknown:
        parser.error(f"unknown data sets {unknown}; choose from {sorted(by_name)}")
    args.kinds = [by_name[name.lower()] for name in args.names] or list(COOP_DATASETS)
    return args


def main(argv: list[str] | None = None) -> int:
    """Print the table and the gaps; return the exit code."""
    args = parse_args(argv)
    findings = [inspect(kind, args.data) for kind in args.kinds]
    if args.images:
        for finding in findings:
            if finding.dataset:
                decode_all(finding)
    lines = [tabulate([finding.row() for finding in findings], HEADERS)]
    for finding in findings:
        if finding.gaps:
            lines += [f"\n{finding.kind.__name__}", *(f"- {gap}" for gap in finding.gaps)]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(any(finding.gaps for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
