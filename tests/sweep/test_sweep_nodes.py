"""What the benchmark of a cluster calls different."""

import json

from benchmarks.sweep_nodes import KINDS, compared


def test_what_differs_is_named_and_what_may_differ_is_not(tmp_path):
    same = {"accuracy": 50.0, "identity": {"mode": "train"}}
    for kind in KINDS:
        passing = {"date": kind, "memory": kind, "config": f"OUTPUT_DIR: {kind}"}
        runs = {"a": {}, "b": {"accuracy": len(kind)}, kind: {}}
        for name, own in runs.items():
            (tmp_path / kind / name).mkdir(parents=True)
            file = tmp_path / kind / name / "results.json"
            file.write_text(json.dumps({**same, **passing, **own}))
    found = compared(tmp_path)
    assert found == {"runs": 3, "different": ["local", "ray", "b: accuracy"]}
