"""The benchmark of the samplers: each draws by itself."""

import torch

from benchmarks import sampler_variance as benchmark
from varprompt import PromptConfig, PromptedCLIP, load_clip
from varprompt.ops import SAMPLERS


def test_every_row_is_of_its_own_sampler():
    config = PromptConfig(posterior="gaussian", logvar_init=-4.0)
    model = PromptedCLIP(load_clip("embedded"), ["circle", "star"], config)
    features = torch.nn.functional.normalize(torch.randn(6, 128), dim=-1)
    args = benchmark.parser().parse_args(["--draws", "3", "--samples", "2", "4"])
    rows = benchmark.measure(args, model, features, torch.tensor([0, 1] * 3))
    assert [(r["L"], r["sampler"]) for r in rows] == [(n, s) for n in (2, 4) for s in SAMPLERS]
    assert len({r["mean"] for r in rows}) == len(rows) and all(r["std"] > 0 for r in rows)
