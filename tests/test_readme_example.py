"""The README's block of Python runs as it stands, without Dassl and yacs."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_it_trains_and_predicts(tmp_path):
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## In Python\n")[2]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    assert len(block.splitlines()) <= 15 and max(map(len, block.splitlines())) <= 100
    checked = (
        "import sys; sys.modules['dassl'] = sys.modules['yacs'] = None\n"
        f"{block}"
        "assert probabilities.shape == (8, 2)\n"
        "assert torch.allclose(probabilities.sum(1), torch.ones(8), atol=1e-5)\n"
        "assert all(p.grad.abs().sum() > 0 for p in model.prompt_learner.parameters())\n"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", checked], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
