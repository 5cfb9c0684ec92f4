"""Train the tiny CLIP of the embedded benchmark on rendered pictures and export it.

    python scripts/make_embedded_clip.py                  # train (or resume), then export
    python scripts/make_embedded_clip.py --export-only    # export the latest checkpoint

Training is a function of seed, steps and thread count: every step draws its batch from a generator
seeded with both, so an interrupted training resumes to the same weights.
"""

import argparse
import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import trange

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
from export_embedded_clip import CLIP, CONTEXT_LENGTH, export, image_features, tokenize  # noqa: E402

from varprompt.common.files import write  # noqa: E402
from varprompt.embedded import captions  # noqa: E402
from varprompt.embedded.paint import paint  # noqa: E402
from varprompt.embedded.world import draw, load_masks  # noqa: E402

BATCH, STEPS, RATE = 128, 4000, 2e-3


def tiny_clip(vocab_size: int) -> CLIP:
    """A CLIP with a small ResNet tower: it learns this world; a small ViT needs hours more."""
    return CLIP(
        embed_dim=128, image_resolution=32, vision_layers=(1, 1, 1, 1), vision_width=16,
        vision_patch_size=None, context_length=CONTEXT_LENGTH, vocab_size=vocab_size,
        transformer_width=64, transformer_heads=1, transformer_layers=2,
    )  # fmt: skip


@dataclass
class Batch:
    """What one training step sees: B pictures with their captions, and N names as prompts."""

    pictures: Tensor  # (B, 3, 32, 32)
    labels: Tensor  # (B,)
    captions: list[str]  # B
    prompts: list[str]  # N, all names in one template


def draw_batch(
    seed: int, step: int, jitter: float, names: tuple[str, ...], size: int = 0
) -> Batch:  # fmt: skip
    """Return the batch of one step (of `BATCH` pictures); it depends on the arguments only."""
    generator = torch.Generator().manual_seed(seed * 1_000_000 + step)
    rng = random.Random(seed * 1_000_000 + step)  # noqa: S311
    weight = torch.ones(len(names))
    weight[-10:] = 2  # digits come in 15 fonts, and their data set is real: it needs more practice
    labels = torch.multinomial(weight, size or BATCH, replacement=True, generator=generator)
    scene = draw(labels, generator, jitter=jitter)
    sentences = captions.captions(scene, [names[label] for label in labels], rng)
    template = rng.choice(captions.TEMPLATES) + rng.choice(("", "."))
    prompts = [template.format(name) for name in names]
    return Batch(paint(scene, dtype=torch.float32), labels, sentences, prompts)


def loss_of(model: CLIP, tokens: captions.Vocabulary, batch: Batch) -> Tensor:
    """CLIP's symmetric loss on the captions plus classification among all names.

    The second term is what makes zero-shot classification by a bare template work within minutes.
    """
    image = image_features(model, batch.pictures)
    rows = tokens(batch.captions + batch.prompts)
    text = F.normalize(model.encode_text(rows), dim=-1)
    logits = model.logit_scale.exp() * image @ text.T
    pairs, target = logits[:, : len(image)], torch.arange(len(image))
    contrast = (F.cross_entropy(pairs, target) + F.cross_entropy(pairs.T, target)) / 2
    return contrast + F.cross_entropy(logits[:, len(image) :], batch.labels)


def optimizer_of(learned: list[Tensor], rate: float, decay: float) -> torch.optim.Optimizer:
    """AdamW that decays matrices only: norms, biases and the temperature are left alone."""
    matrices = [p for p in learned if p.ndim >= 2]
    others = [p for p in learned if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def learning_rate(step: int, steps: int) -> float:
    """Warm-up over 100 steps, then a cosine to zero."""
    return RATE * min(1.0, (step + 1) / 100) * (1 + math.cos(math.pi * step / steps)) / 2


def state_of(checkpoint: Path, plan: dict[str, int]) -> dict[str, Any] | None:
    """An earlier checkpoint of the same plan, if there is one."""
    if not checkpoint.exists():
        return None
    state = torch.load(checkpoint, weights_only=True)
    made = {key: state[key] for key in plan}
    if made != plan:
        sys.exit(f"{checkpoint} was made with {made}, not {plan}; name another --checkpoint")
    return state


def resume(
    checkpoint: Path, model: CLIP, optimizer: torch.optim.Optimizer, plan: dict[str, int]
) -> int:
    """Load an earlier checkpoint of the same plan, if there is one, and return its step."""
    state = state_of(checkpoint, plan)
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def train(seed: int, steps: int, checkpoint: Path, every: int) -> None:
    """Train to ``steps``, from the checkpoint if there is one."""
    torch.manual_seed(seed)
    names = load_masks().names
    tokens = captions.Vocabulary(tokenize, names)
    model = tiny_clip(len(tokens.ids))
    optimizer = optimizer_of(list(model.parameters()), RATE, decay=0.1)
    plan = {"seed": seed, "steps": steps, "threads": torch.get_num_threads()}
    start = resume(checkpoint, model, optimizer, plan)
    bar = trange(start, steps, initial=start, total=steps, desc="training", mininterval=5)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        jitter = min(1.0, 0.3 + 0.7 * step / (0.4 * steps))  # easy pictures first
        loss = loss_of(model, tokens, draw_batch(seed, step, jitter, names))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        bar.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
        if (step + 1) % every == 0 or step + 1 == steps:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "token_ids": tokens.ids,
                "step": step + 1,
                "loss": loss.item(),
            }
            write(plan | state, checkpoint)


def parser(about: str | None, batch: int, steps: int, threads: int) -> argparse.ArgumentParser:
    """The command line of a script that trains an embedded CLIP."""
    p = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--steps", type=int, default=steps, help=f"batches of {batch} pictures")
    p.add_argument("--threads", type=int, default=threads, help="the weights depend on it slightly")
    p.add_argument("--checkpoint", type=Path, help="where training goes on from")
    p.add_argument("--every", type=int, default=250, help="steps between checkpoints")
    p.add_argument("--export-only", action="store_true", help="export the checkpoint as it is")
    return p


def main() -> None:
    """Train, then export."""
    p = parser(__doc__, BATCH, STEPS, threads=2)
    p.set_defaults(checkpoint=Path("output/tiny_clip/checkpoint.pt"))
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    if not args.export_only:
        train(args.seed, args.steps, args.checkpoint, args.every)
    export(args.checkpoint)


if __name__ == "__main__":
    main()
