"""Everything that needs a GPU, in one command of at most nine minutes.

    python benchmarks/gpu.py                 # results in benchmarks/results/gpu, one JSON a part
    python benchmarks/gpu.py --rehearse      # the same commands on the CPU with tiny sizes

What matters most comes first, each part has its own limit and writes its JSON when it ends, and
gpu.json tells after each part how all have ended: whatever cuts this off loses one part at most.
A rehearsal measures nothing; it shows that no part fails for a typo. Its figures go to a folder
that is thrown away unless --output names one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

from benchmarks._report import ROOT, environment, write_json  # noqa: E402

LIMIT = 9 * 60  # seconds for all
_PATIENCE = 5  # times as long for a rehearsal, which is not about time
_LAST_WORDS = 2000  # characters of a part's output that are kept
STEP = "benchmarks/step.py"


@dataclass(frozen=True)
class Part:
    """One command.

    Attributes:
        name: of its JSON.
        limit: seconds.
        words: file and arguments; FILE stands for the JSON, TABLE for a CSV beside it.
        rehearsed: the words of a rehearsal, on the CPU.
    """

    name: str
    limit: int
    words: str
    rehearsed: str

    def command(self, folder: Path, rehearse: bool) -> list[str]:
        """What is run."""
        file = str(folder / f"{self.name}.json")
        words = (self.rehearsed if rehearse else self.words).split()
        table = str(folder / f"{self.name}.csv")
        places = {"FILE": file, "TABLE": table}
        return [sys.executable, *(places.get(word, word) for word in words)]


def step(name: str, limit: int, options: str) -> Part:
    """A part that times a training step."""
    # the last of several equal flags counts
    tiny = "--backbone tiny --classes 5 -L 2 --repeats 1 --device cpu --precision fp32"
    words = f"{STEP} --names imagenet --output FILE {options}"
    return Part(name, limit, f"{words} --device cuda", f"{words} {tiny}")


TESTS = "-m pytest -q -n 0 -p no:randomly --junitxml FILE"
FUSED = "benchmarks/reparam_kl.py --output FILE"
EVALUATE = "benchmarks/evaluate.py --output FILE --names imagenet"
COST = "benchmarks/cost.py --output TABLE"  # rows for varprompt/data/cost.csv
BASE = "--classes 500 --repeats 10"
PARTS = (
    Part("tests", 150, f"{TESTS} -m cuda", f"{TESTS} tests/ops/test_fused.py -k unused"),
    Part("fused", 60, f"{FUSED} --device cuda --repeats 50",
         f"{FUSED} --device cpu --backends eager --sizes 3,2,5,7 --repeats 2"),
    step("step_100_fp16", 45, "--classes 100 --precision fp16 --repeats 20"),
    step("step_500_fp16", 60, f"{BASE} --precision fp16 --plain-images 1"),
    step("step_500_bf16", 40, f"{BASE} --precision bf16 --plain-repeats 0"),
    step("step_500_fp16_8gb", 40, f"{BASE} --precision fp16 --mem-budget 8 --plain-repeats 0"),
    step("step_500_fp16_16gb", 40, f"{BASE} --precision fp16 --mem-budget 16 --plain-repeats 0"),
    Part("cost", 80, f"{COST} --device cuda --precision fp16 --limit 5",
         f"{COST} --device cpu --backbone tiny --datasets eurosat --repeats 1"),
    Part("evaluate", 50, f"{EVALUATE} --device cuda --precision fp16 --images 1000",
         f"{EVALUATE} --device cpu --backbone tiny --classes 5 --samples 2 --images 8 "
         "--batch-size 4 --usual-images 2"),
    step("compile_100_fp16", 80, "--classes 100 --precision fp16 --compile --plain-repeats 0"),
    step("cocoop_100_fp16", 40,
         "--trainer VPT_CoCoOp -B 4 --classes 100 --precision fp16 --plain-repeats 0"),
)  # fmt: skip


def main() -> int:
    """Run all parts; returns 0 if all of them ended well."""
    args = parser().parse_args()
    if not args.rehearse and not torch.cuda.is_available():
        print("error: torch sees no CUDA device; --rehearse runs on the CPU", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as nowhere:
        default = nowhere if args.rehearse else ROOT / "benchmarks/results/gpu"
        folder = Path(args.output or default).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        return run(folder, args.rehearse, args.only or [part.name for part in PARTS])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--rehearse", action="store_true", help="on the CPU, tiny sizes")
    p.add_argument("--output", metavar="FOLDER")
    p.add_argument("--only", nargs="+", choices=[part.name for part in PARTS])
    return p


def run(folder: Path, rehearse: bool, names: list[str]) -> int:
    """Run the parts named; gpu.json is written after each."""
    device = torch.device("cpu" if rehearse else "cuda")
    rows: list[dict[str, Any]] = []
    report = {"environment": environment(device), "rehearsal": rehearse, "parts": rows}
    end = time.monotonic() + LIMIT * (_PATIENCE if rehearse else 1)
    for part in PARTS:
        if part.name in names:
            rows.append(run_part(part, folder, rehearse, end - time.monotonic()))
            write_json(folder / "gpu.json", report)
            row = rows[-1]
            print(f"{part.name:20} {row['ended']:10} {row['seconds']:6.1f} s", flush=True)
            if row["ended"] != "well":
                print(row["last_words"], flush=True)
    return int(any(row["ended"] != "well" for row in rows))


def run_part(part: Part, folder: Path, rehearse: bool, left: float) -> dict[str, Any]:
    """How a part has ended: well, with an exit code, cut off by its limit, or not begun."""
    command = part.command(folder, rehearse)
    row: dict[str, Any] = {"name": part.name, "command": " ".join(command), "seconds": 0.0}
    if left < 1:
        return row | {"ended": "not begun", "last_words": "no time was left"}
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    if rehearse:
        env |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    limit = part.limit * (_PATIENCE if rehearse else 1)
    start = time.monotonic()
    try:
        done = subprocess.run(  # noqa: S603 - of the table above
            command, cwd=ROOT, env=env, timeout=min(limit, left), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        ended, words = f"exit {done.returncode}" if done.returncode else "well", done.stdout
    except subprocess.TimeoutExpired as error:
        ended, words = "cut off", (error.stdout or b"").decode(errors="replace")
    row |= {"ended": ended, "seconds": round(time.monotonic() - start, 1)}
    return row | {"last_words": words[-_LAST_WORDS:]}


if __name__ == "__main__":
    sys.exit(main())
