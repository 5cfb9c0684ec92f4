"""Shared by the tests of the core: a model beside its textbook version, runs on a tiny data set."""

import copy
import functools
import importlib.util
import json
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from varprompt.model import PromptedCLIP
from varprompt.objective import ObjectiveConfig, kl_scale, objective

NAMES = ["dog", "polka-dotted", "centered_lily_of_the_valley", "Boeing 747-400 St.", "x"]
N_TRAIN = 13  # for KL_REDUCTION "elbo"


@functools.cache
def _random_clip(options):
    return reference.random_clip(**dict(options))


def small_clip(**options):
    """A fresh copy of `reference.random_clip`, made once per set of options."""
    return copy.deepcopy(_random_clip(tuple(sorted(options.items()))))


@functools.cache
def textbook_clip(**options):
    """The float64 copy of `small_clip`."""
    return reference.double(small_clip(**options))


def images(n, size=32, seed=0):
    """Images (n, 3, size, size)."""
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def noise(n_samples, n_rows, posterior, seed=1):
    """Noise (L, K, R, D)."""
    generator = torch.Generator().manual_seed(seed)
    shape = posterior.shape if posterior is not None else (1, 1)
    return torch.randn(n_samples, n_rows, *shape, generator=generator)


def prompted(config, names=NAMES, clip=None, seed=2):
    """A model whose learner has left its initial values, so that everything matters."""
    torch.manual_seed(seed)
    model = PromptedCLIP(clip or small_clip(), names, config)
    with torch.no_grad():
        for name, p in model.prompt_learner.named_parameters():
            p.add_((0.02 if name == "ctx" else 0.1) * torch.randn_like(p))
    return model


def production(model, config, x, labels, eps):
    """Logits, loss, and the gradient of every parameter by name."""
    logits, kl = model.logits(x, eps=eps)
    scale = kl_scale(config.kl_weight, config.kl_reduction, model.n_dims, N_TRAIN)
    loss = objective(logits, labels, kl, ObjectiveConfig(config.objective, scale)).loss
    model.prompt_learner.zero_grad()
    loss.backward()
    gradients = {n: p.grad for n, p in model.prompt_learner.named_parameters()}
    return logits.detach(), loss.detach(), gradients


def textbook(model, config, x, labels, eps, names=NAMES, clip=None):
    """The same in float64 by tests/reference.py."""
    clip = clip or textbook_clip()
    trained = dict(model.prompt_learner.named_parameters())
    values = {
        n: v.detach().double().requires_grad_(n in trained)
        for n, v in model.prompt_learner.state_dict().items()
    }
    features = reference.image_features(clip, x.double())
    contexts, mu, logvar = reference.contexts(values, features, eps.double())
    logits = reference.logits(clip, features, contexts, names, config.position)
    n_dims = 1 if mu is None else mu[0].numel()
    loss = reference.loss(
        logits, labels, reference.kl(mu, logvar, config.prior_std), n_dims,
        objective=config.objective, kl_weight=config.kl_weight,
        kl_reduction=config.kl_reduction, n_train=N_TRAIN,
    )  # fmt: skip
    gradients = dict(
        zip(trained, torch.autograd.grad(loss, [values[n] for n in trained]), strict=True)
    )
    return logits.detach(), loss.detach(), gradients


def error(got, want):
    """Largest difference relative to the largest value."""
    return ((got.double() - want.double()).abs().max() / want.abs().max().clamp(min=1e-30)).item()


class Live(TorchDispatchMode):
    """Bytes of tensors made and still alive, and their peak."""

    def __init__(self):
        super().__init__()
        self.alive, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves(args) if torch.is_tensor(t)}
        for storage in (t.untyped_storage() for t in tree_leaves(out) if torch.is_tensor(t)):
            if storage._cdata not in self.alive and storage._cdata not in given:
                self.alive[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, storage._cdata)
        return out

    def _freed(self, key):
        self.now -= self.alive.pop(key)


def value_and_gradient(function, ctx):
    """Features and the gradient of a weighted sum of them with respect to the contexts."""
    features = function(ctx)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(features.shape, generator=generator).to(features.dtype)
    return features.detach(), torch.autograd.grad((features * weights).sum(), ctx)[0]


ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("small ring", "king_of_hearts", "sun", "x", "wheel")
N_IMAGES = {"train": 3, "val": 1, "test": 4}  # per class
OPTIONS = {
    "DATASET.PATH": "pictures", "INPUT.SIZE": (32, 32), "DATALOADER.NUM_WORKERS": 0,
    "INPUT.TRANSFORMS": ("random_resized_crop", "random_flip", "normalize"),
    "DATALOADER.TRAIN_X.BATCH_SIZE": 4, "DATALOADER.TEST.BATCH_SIZE": 7,
    "MODEL.BACKBONE.NAME": "embedded", "OPTIM.NAME": "sgd", "OPTIM.LR": 0.02,
    "OPTIM.LR_SCHEDULER": "cosine", "OPTIM.MAX_EPOCH": 3, "OPTIM.WARMUP_EPOCH": 1,
    "OPTIM.WARMUP_TYPE": "constant", "TRAIN.PRINT_FREQ": 2, "TRAINER.VPT.L": 3,
    "TRAINER.VPT.PREC": "fp32", "TRAINER.COOP.PREC": "fp32", "TRAINER.COCOOP.PREC": "fp32",
}  # fmt: skip


def make_pictures(root):
    """The data set Folder: five classes of small pictures that differ."""
    noise = np.random.RandomState(0)
    for part, count in N_IMAGES.items():
        for label, name in enumerate(CLASSES):
            folder = root / "pictures" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = noise.randint(0, 90, (33, 35, 3), dtype=np.uint8)
                pixels[4 * label : 12 + 4 * label, 7:30, label % 3] += 150
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def command(root, output, *flags, trainer="VPT", seed=1, **options):
    """Arguments of train.py; `options` are KEY VALUE pairs with "__" for the dots."""
    options = OPTIONS | {k.replace("__", "."): v for k, v in options.items()}
    flags = ["--root", root, "--output-dir", output, "--trainer", trainer, *flags]
    flags += ["--seed", seed] if seed is not None else []
    flags += ["--dataset-config-file", ROOT / "configs/datasets/custom.yaml"]
    return [str(x) for x in (*flags, *(x for pair in options.items() for x in pair))]


def build(arguments):
    """The trainer of a command line, as train.py builds it."""
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    import datasets  # noqa: F401 - registers Folder
    import train
    import trainers.baselines  # noqa: F401 - registers all trainers

    cfg = train.setup_cfg(train.parser().parse_args(arguments))
    set_random_seed(cfg.SEED)
    return build_trainer(cfg)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Data root with `make_pictures`."""
    return make_pictures(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Image features are not looked for among the user's."""
    monkeypatch.setenv("VARPROMPT_CACHE", str(tmp_path / "feature-cache"))


@pytest.fixture(scope="session")
def theirs(tmp_path_factory):
    """Makes each CLIP of another library once: (library, kind) -> what `foreign` says of it."""
    import foreign  # not at the top: its libraries take seconds

    made, top = {}, tmp_path_factory.mktemp("foreign")
    save = {"open_clip": foreign.save_open_clip, "hf": foreign.save_hf}

    def make(library, kind):
        key = library, kind
        if key not in made:
            made[key] = save[library](kind, top / f"{library} {kind}")
        return made[key]

    return make


def at_once(work, n):
    """Call ``work(0) ... work(n - 1)`` in threads; wait for all."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_train(arguments, capsys):
    """Exit code, standard output and standard error of train.py in this process."""
    import train

    try:
        code = train.main([str(a) for a in arguments])
    except SystemExit as leave:
        code = leave.code
    return code, *capsys.readouterr()


def results(folder):
    """What a run has written."""
    return json.loads((folder / "results.json").read_text())


def compiled_step_is_the_step(step, tensors, eps):
    """torch.compile changes neither a step's gradients nor its noise of a seed (eps None)."""
    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        torch.autograd.grad(compiled(*tensors, eps), tensors),
        torch.autograd.grad(step(*tensors, eps), tensors),
    )
    torch.manual_seed(4)
    first, second = compiled(*tensors, None), compiled(*tensors, None)
    torch.manual_seed(4)
    assert torch.equal(compiled(*tensors, None), first)
    assert not torch.equal(first, second)


def load_script(name):
    """The module of a file in scripts/, which leaves sys.path as it was."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module
