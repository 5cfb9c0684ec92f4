"""A sweep on a Ray cluster of two nodes, one of which is killed, against the same one run locally.

    python benchmarks/sweep_nodes.py --json benchmarks/results/sweep_nodes_cpu.json

3 embedded data sets x 5 trainers x 3 seeds, each a training that ends with its test. The second
node is killed as soon as it has worked on a few runs. Afterwards figures, identities and learned
values of all runs are compared; what differs is named, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks._report import environment, write_json  # noqa: E402
from benchmarks._rows import PASSING  # noqa: E402
from varprompt.common import files  # noqa: E402

TRAINERS = ("VPT", "VPT_CoCoOp", "CoOp", "KgCoOp", "MaPLe")
PLACED = ("config", "checkpoint_sha256")  # of results.json: they hold the name of the folder
KINDS = ("local", "ray")
MODELS = "prompt_learner/model.pth.tar-*"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--datasets", nargs="+", default=["digits", "chalk", "tint"])
    p.add_argument("--trainers", nargs="+", default=list(TRAINERS))
    p.add_argument("--seeds", nargs="+", default=["1", "2", "3"])
    p.add_argument("--shots", default="2")
    p.add_argument("--epochs", default="1")
    p.add_argument("--killed-after", type=int, default=4, help="runs that are finished by then")
    p.add_argument("--json", metavar="FILE")
    return p


def main() -> int:
    """Run both, compare; returns 0 if all is equal."""
    args = parser().parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        start = time.monotonic()
        done = sweep(args, folder, "local").wait()
        local = time.monotonic() - start
        start = time.monotonic()
        cluster, address = two_nodes()
        process = sweep(args, folder, "ray", "--address", address)
        killed = kill_node(cluster, process, folder / "ray", args.killed_after)
        codes = [done, process.wait()]
        seconds = {"local": local, "ray": time.monotonic() - start}
        texts = {kind: (folder / f"{kind}.txt").read_text(encoding="utf-8") for kind in KINDS}
        for code, text in zip(codes, texts.values(), strict=True):
            if code:
                print(text[-2000:], file=sys.stderr)
        report = {**compared(folder), "exit_codes": codes, "killed_after": killed,
                  "lost_and_tried_again": texts["ray"].count("lost with its worker or node"),
                  "seconds": seconds, "environment": environment(torch.device("cpu"))}  # fmt: skip
    print(json.dumps({k: v for k, v in report.items() if k != "environment"}, indent=1))
    if args.json:
        write_json(args.json, report)
    return int(any(codes) or bool(report["different"]) or report["runs"] != expected(args))


def expected(args: argparse.Namespace) -> int:
    """How many runs there are."""
    return len(args.datasets) * len(args.trainers) * len(args.seeds)


def sweep(args: argparse.Namespace, folder: Path, kind: str, *more: str) -> subprocess.Popen[bytes]:
    """Start a sweep; what it prints goes to a file beside its folder."""
    command = [
        sys.executable, str(ROOT / "sweep.py"), "fewshot", "--trainers", *args.trainers,
        "--datasets", *args.datasets, "--seeds", *args.seeds, "--shots", args.shots, "--cfg",
        "embedded", "--epochs", args.epochs, "--data", str(folder / "data"),
        "--output", str(folder / kind), "--threads", "1", "--launcher", kind, *more,
    ]  # fmt: skip
    env = {**os.environ, "PYTHONWARNINGS": "ignore", "VARPROMPT_CACHE": str(folder / "cache")}
    with open(folder / f"{kind}.txt", "w", encoding="utf-8") as text:
        return subprocess.Popen(command, env=env, stdout=text, stderr=text)  # noqa: S603


def two_nodes() -> tuple[Any, str]:
    """A cluster on this machine, and its address; each node has one core."""
    from ray.cluster_utils import Cluster

    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000,
             "health_check_failure_threshold": 5}  # fmt: skip
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": quick}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.doomed = cluster.add_node(num_cpus=1)
    return cluster, cluster.address


def kill_node(cluster: Any, process: subprocess.Popen[bytes], folder: Path, after: int) -> int:
    """Kill the second node while it works; returns how many runs were finished by then."""
    while process.poll() is None:
        finished = len(list(folder.rglob("results.json")))
        begun = len(list(folder.rglob("sweep.txt")))
        if finished >= after and begun >= finished + 2:  # one is at work on either node
            cluster.remove_node(cluster.doomed, allow_graceful=False)
            return finished
        time.sleep(0.1)
    return -1


def compared(folder: Path) -> dict[str, Any]:
    """How many runs there are, and what differs: a run that only one has, or parts of one."""
    ours, theirs = (
        {str(path.parent.relative_to(folder / kind)): path.parent
         for path in (folder / kind).rglob("results.json")}
        for kind in KINDS
    )  # fmt: skip
    different = sorted(ours.keys() ^ theirs.keys())
    for name in sorted(ours.keys() & theirs.keys()):
        here, there = content_of(ours[name]), content_of(theirs[name])
        parts = sorted(k for k in here.keys() | there.keys() if here.get(k) != there.get(k))
        if parts:
            different.append(f"{name}: {', '.join(parts)}")
    return {"runs": len(ours), "different": different}


def content_of(folder: Path) -> dict[str, Any]:
    """Figures and learned values; digests of states hold the name of the folder."""
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    content["identity"].pop("checkpoint", None)
    values = [files.read(file)["state_dict"] for file in sorted(folder.glob(MODELS))]
    content["learned values"] = [{k: v.tolist() for k, v in each.items()} for each in values]
    return {k: v for k, v in content.items() if k not in (*PASSING, *PLACED)}


if __name__ == "__main__":
    sys.exit(main())
