"""The benchmark of the step runs on a CPU and says what it did not measure."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "reparam_kl.py"


def test_benchmark_on_a_cpu(tmp_path):
    output = tmp_path / "new" / "report.json"
    options = "--device cpu --backends eager --sizes 3,2,5,7 --repeats 3".split()
    command = [sys.executable, str(SCRIPT), *options, "--output", str(output)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    report = json.loads(output.read_text())
    assert [path.name for path in output.parent.iterdir()] == ["report.json"]
    assert report["fused"].startswith("not measured")
    assert report["environment"]["packages"]["torch"]
    assert [(row["R"], row["pass"]) for row in report["rows"]] == [
        (1, "forward"), (1, "both"), (5, "forward"), (5, "both"),
    ]  # fmt: skip
    contexts, kl, shared, context = 3 * 2 * 5 * 7 * 4, 2 * 4, 2 * 1 * 7 * 4, 5 * 7 * 4
    forward, both = report["rows"][:2]
    assert forward["bytes"] == 2 * shared + context + contexts + kl
    assert both["bytes"] == 2 * (contexts + kl) + 6 * shared + 2 * context
    assert forward["ms"]["p20"] <= forward["ms"]["p50"] <= forward["ms"]["p80"]
    assert forward["peak_bytes"] is None
