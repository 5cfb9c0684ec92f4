"""Tells which data sets of the CoOp protocol are there, complete and readable."""

import argparse
import contextlib
import io
import os
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from tabulate import tabulate
from tqdm import tqdm

from varprompt.common.characters import printable
from varprompt.common.checks import check_choice
from varprompt.common.console import out
from varprompt.errors import DataError
from varprompt.images.content import ContentHasher
from varprompt.images.read import read_rgb
from varprompt.run.identity import Images, twins
from varprompt.settings.flags import Parser
from varprompt.settings.nodes import extend_cfg
from varprompt.settings.plugins import add_import_flag, load_plugins

from . import COOP_DATASETS, EMBEDDED_DATASETS, Folder
from .base import ATTENTION, FewShotDataset
from .missing import MissingError

KINDS = {kind.__module__.rpartition(".")[2]: kind for kind in (*COOP_DATASETS, Folder)}
OTHER_SPELLINGS = {kind.__name__.lower(): name for name, kind in KINDS.items()} | {
    "custom": "folder"  # the name of its configuration
}
MADE_HERE = [kind.dataset_dir for kind in EMBEDDED_DATASETS]
FOLDERS = {kind.dataset_dir for kind in (*COOP_DATASETS, *EMBEDDED_DATASETS)}
ROUTINE = ("Reading split from", "Loading preprocessed")  # begin lines that nobody misses here
HEADERS = ("data set", "folder", "classes", "train", "val", "test", "state")


@dataclass
class Finding:
    """What was found of one data set; ``state`` is "missing", "damaged" or ''.

    ``gaps`` are what is wrong, ``notes`` what else a run would say, such as ignored files.
    """

    kind: type[FewShotDataset]
    dataset: FewShotDataset | None = None
    state: str = ""
    gaps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def row(self) -> list[str]:
        """Return the line of the table."""
        cells = ["-"] * 4
        if self.dataset:
            parts = (self.dataset.train_x, self.dataset.val, self.dataset.test)
            got = [len(self.dataset.classnames), *(len(part or ()) for part in parts)]
            published = getattr(self.kind, "sizes", (None, None, None))  # of plug-ins perhaps not
            wanted = [getattr(self.kind, "n_classes", None), *published]
            cells = [
                f"{g:,}" if w in (None, g) else f"{g:,} of {w:,}"
                for g, w in zip(got, wanted, strict=True)
            ]
        state = self.state or ("see below" if self.gaps else "complete")
        return [self.kind.__name__, self.kind.dataset_dir, *cells, state]


def add_kinds_of_plugins() -> None:
    """Note the data sets that others have registered, by the names of their modules."""
    for name in DATASET_REGISTRY.registered_names():
        kind = DATASET_REGISTRY.get(name)
        package, _, module = kind.__module__.rpartition(".")
        if kind in (*KINDS.values(), *EMBEDDED_DATASETS) or package.startswith("dassl."):
            continue
        KINDS[name.lower() if module in KINDS else module] = kind
        OTHER_SPELLINGS[name.lower()] = next(key for key, k in KINDS.items() if k is kind)


def config_for(data: str):
    """Return a config that asks for all images under ``data``."""
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.DATASET.ROOT = cfg.DATASET.PATH = os.path.abspath(os.path.expanduser(data))
    return cfg


def inspect(kind: type[FewShotDataset], data: str) -> Finding:
    """Load one data set and note every gap with the step that closes it."""
    folder = os.path.join(data, kind.dataset_dir)
    finding, log = Finding(kind), io.StringIO()
    try:
        with contextlib.redirect_stdout(log):
            finding.dataset = kind(config_for(data))
    except MissingError as error:
        steps = missing_sources(kind, folder)
        misnamed = error.near and os.path.basename(error.near) not in FOLDERS
        finding.gaps = [error.what, *steps] if misnamed or not steps else steps
        finding.state = "" if misnamed or os.path.exists(folder) else "missing"
    except (DataError, OSError) as error:
        finding.state = "damaged"
        finding.gaps = [str(error), *missing_sources(kind, folder)]
    said = log.getvalue().splitlines()
    finding.gaps += [line for line in said if line.startswith(ATTENTION)]
    finding.notes = [line for line in said if not line.startswith((ATTENTION, *ROUTINE))]
    return finding


def missing_sources(kind: type[FewShotDataset], folder: str) -> list[str]:
    """Return the steps that get what a folder lacks of the official data set."""
    return [
        f"get {name} from {source} into {folder}"
        for name, source in getattr(kind, "sources", {}).items()
        if kind.dataset_dir  # a folder of one's own has no sources
        and name not in kind.only_without_split
        and not os.path.exists(os.path.join(folder, name))
    ]


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
    elif getattr(finding.kind, "own_data", False):
        hasher, root = ContentHasher(finding.notes.append), finding.dataset.dataset_dir
        finding.notes += twins(
            {
                "train_images": Images.of(parts[0], root, hasher),
                "test_images": Images.of(parts[2], root, hasher),
            }
        )


def _problem(path: str) -> str:
    try:
        read_rgb(path)
    except DataError as error:
        return str(error)
    return ""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Return the arguments; ``names`` are keys of KINDS."""
    parser = Parser(
        prog="python -m datasets.check",
        description=__doc__,
        epilog="Exit code: 0 if everything asked for is complete, 1 if not, 2 if the arguments are "
        "wrong. DATASETS.md says how to get each data set.",
    )
    parser.add_argument("data", help="folder of the data sets (--root); for 'folder' DATASET.PATH")
    parser.add_argument(
        "names",
        nargs="*",
        default=[],
        metavar="name",
        help=f"data sets, all of CoOp's if left out: {', '.join(KINDS)}",
    )
    parser.add_argument("--images", action="store_true", help="decode every image (slow)")
    add_import_flag(parser)
    args = parser.parse_args(argv)
    load_plugins(args.plugins)
    add_kinds_of_plugins()
    args.data = os.path.expanduser(args.data)
    args.names = [OTHER_SPELLINGS.get(name.lower(), name.lower()) for name in args.names]
    problems: list[str] = []
    if not os.path.exists(args.data):
        problems.append(f"{args.data} does not exist; give the folder that holds the data sets")
    elif os.path.isfile(args.data) and set(args.names) != {"folder"}:
        problems.append(f"{args.data} is a file; give the folder that holds the data sets")
    for name in args.names:
        if name in MADE_HERE:
            problems.append(f"{name} is made on first use: there is nothing to check")
        else:
            check_choice(name, KINDS, "data set", problems)
    if problems:
        parser.error("; ".join(problems))
    return args


def report(findings: list[Finding], named: bool) -> str:
    """Return the table and the gaps; data sets that nobody named get one line if missing."""
    lines = [tabulate([finding.row() for finding in findings], HEADERS)]
    for finding in findings:
        said = [*finding.gaps, *finding.notes]
        if said and (named or finding.state != "missing"):
            lines += [f"\n{finding.kind.__name__}", *(f"- {line}" for line in said)]
    if not named and any(finding.state == "missing" for finding in findings):
        lines.append(
            "\nDATASETS.md says where to get what is missing; so does this command if you name it:"
            "\npython -m datasets.check DATA dtd"
        )
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Print the table and the gaps; return the exit code."""
    args = parse_args(argv)
    findings = [inspect(KINDS[name], args.data) for name in args.names]
    findings = findings or [inspect(kind, args.data) for kind in COOP_DATASETS]
    if args.images:
        for finding in findings:
            if finding.dataset:
                decode_all(finding)
    for line in report(findings, bool(args.names)).rstrip().split("\n"):
        out(printable(line))
    return int(any(finding.gaps for finding in findings))
