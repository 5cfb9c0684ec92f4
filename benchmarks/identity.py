"""What it costs to know a run by the content of its images: first start, second start.

Writes small files, as many as asked for, and times `ContentHasher` on them: when it has seen none
of them (first start; the system still has the files in memory, a disk comes on top), and as a
new process does that finds all digests (second start, which reads no file).

    python benchmarks/identity.py --output benchmarks/results/identity.json
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks._report import environment, write_json  # noqa: E402
from varprompt.images import content  # noqa: E402
from varprompt.images.content import ContentHasher, digest_file  # noqa: E402

PER_FOLDER = 500


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--files", type=int, default=50_000)
    p.add_argument("--bytes", type=int, default=20_000, help="of each file")
    p.add_argument("--repeat", type=int, default=3, help="second starts")
    p.add_argument("--folder", help="where to write; default: the system's temporary folder")
    p.add_argument("--output", help="JSON file")
    return p


def write_files(folder: Path, n_files: int, size: int) -> list[str]:
    """Files that differ, `PER_FOLDER` to a folder."""
    paths, block = [], os.urandom(size)
    for number in range(n_files):
        path = folder / str(number // PER_FOLDER) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(number.to_bytes(8, "big") + block[8:])
        paths.append(str(path))
    return paths


def start(paths: list[str]) -> dict[str, Any]:
    """Seconds and files read of one start."""
    hasher = ContentHasher(print)
    began, processor = time.perf_counter(), time.process_time()
    hasher.digests(paths)
    return {
        "wall_s": time.perf_counter() - began,
        "processor_s": time.process_time() - processor,
        "files_read": hasher.n_read,
    }


def main() -> int:
    """Measure, print and write; 1 if a second start has read a file."""
    args = parser().parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        os.environ["VARPROMPT_CACHE"] = str(folder / "cache")
        paths = write_files(folder / "files", args.files, args.bytes)
        time.sleep(content._TICK / 1e9 + 0.1)  # until digests of these files may be remembered
        rows = {"first": start(paths), "second": [start(paths) for _ in range(args.repeat)]}
        size = digest_file().stat().st_size
    report = {
        "environment": environment(torch.device("cpu")),
        "settings": {"files": args.files, "bytes": args.bytes, "files_in_a_folder": PER_FOLDER},
        **rows,
        "memory_bytes": size,
    }
    print(f"first start: {rows['first']}")
    for row in rows["second"]:
        print(f"second start: {row}")
    if args.output:
        write_json(args.output, report)
    return int(any(row["files_read"] for row in rows["second"]))


if __name__ == "__main__":
    sys.exit(main())
