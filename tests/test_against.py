"""The benchmark beside the authors' code, with a small stand-in for a checkout of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import step

VPT = '''
"""The interface of the authors' module; the method as a textbook has it, padded prompts."""
import torch
from torch import nn
from clip import clip


class Learner(nn.Module):
    def __init__(self, words, samples):
        super().__init__()
        self.ctx = nn.Parameter(words)
        self.mean_posterior = nn.Parameter(torch.zeros(1, words.shape[1]))
        self.std_posterior = nn.Parameter(torch.rand(1, words.shape[1]))
        self.samples = samples

    def forward(self):
        eps = torch.randn(self.samples, *self.mean_posterior.shape)
        return self.ctx + self.mean_posterior + eps * (self.std_posterior / 2).exp()


class CustomCLIP(nn.Module):
    def __init__(self, cfg, names, model):
        super().__init__()
        node = cfg.TRAINER.VPT
        self.clip, texts = model, [f"{node.CTX_INIT} {n.replace('_', ' ')}." for n in names]
        self.ids = clip.tokenize(texts)
        self.embedded = model.token_embedding(self.ids).detach()
        self.image_encoder = model.visual
        self.prompt_learner = Learner(self.embedded[0, 1:5].clone(), node.L)

    def forward(self, images, labels=None):
        model, found = self.clip, []
        seen = nn.functional.normalize(model.encode_image(images), dim=-1)
        for context in self.prompt_learner():
            x = torch.cat([self.embedded[:, :1], context.expand(len(self.ids), -1, -1),
                           self.embedded[:, 5:]], 1) + model.positional_embedding
            x = model.ln_final(model.transformer(x.permute(1, 0, 2)).permute(1, 0, 2))
            x = x[torch.arange(len(x)), self.ids.argmax(1)] @ model.text_projection
            cosines = seen @ nn.functional.normalize(x, dim=-1).T
            found.append((model.logit_scale.exp() * cosines).log_softmax(1))
        averaged = torch.stack(found)
        if labels is None:
            return averaged.logsumexp(0) - torch.tensor(float(len(found))).log()
        own = averaged[:, torch.arange(len(labels)), labels].logsumexp(0)
        learner = self.prompt_learner
        mu, logvar = learner.mean_posterior, learner.std_posterior
        kl = ((logvar.exp() + mu**2 - 1 - logvar) / 2).mean()
        return torch.tensor(float(len(found))).log() - own.mean() + 0.001 * kl
'''


@pytest.fixture
def checkout(tmp_path):
    """Modules where the authors' are: clip is OpenAI's own."""
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers/vpt.py").write_text(VPT)
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip/__init__.py").write_text(
        "import sys\nfrom varprompt.towers.openai_clip import clip, model\n"
        "sys.modules['clip.clip'], sys.modules['clip.model'] = clip, model\n"
    )
    return tmp_path


def test_both_sides_compute_the_same_and_take_turns(checkout):
    out, command = checkout / "out.json", [sys.executable, Path(step.__file__)]
    words = "--backbone narrow --repeats 2 --classes 5 --test-classes 3 -L 3 -B 2"
    subprocess.run(
        [*command, *words.split(), "--against", checkout, "--output", out],
        check=True, cwd=checkout,
    )  # fmt: skip
    report = json.loads(out.read_text())
    difference = report["step"]["difference"]
    assert 0 < difference["gradient"] < 1e-4 and difference["loss"] < 1e-5
    assert all(len(report["step"][side]["seconds"]) == 2 for side in ("theirs", "ours"))
    assert report["first_test"]["classes"] == 3 and report["first_test"]["ratio"] > 0
    assert str(checkout) not in json.dumps(report["setting"])
    assert "--against CHECKOUT" in report["environment"]["command"]


def test_a_side_that_ends_is_no_endless_wait(tmp_path):
    command = [sys.executable, step.__file__, "--backbone", "narrow", "--against", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode and "trainers/vpt.py" in done.stderr
