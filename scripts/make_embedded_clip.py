"""Train the tiny CLIP of the embedded benchmark on rendered pictures and export it.

    python scripts/make_embedded_clip.py                  # train (or resume), then export
    python scripts/make_embedded_clip.py --export-only    # export the latest checkpoint

Training is a function of seed, steps and thread count: every step draws its batch from a generator
seeded with both, so an interrupted training resumes to the same weights.
"""

import argparse
import hashlib
import importlib.metadata
import io
import json
import math
import os
import platform
import random
import sys
from datetime import date
from pathlib import Path

import clip
import numpy as np
import torch
from clip.model import CLIP, build_model
from safetensors.torch import save as to_bytes
from torch import Tensor
from torch.nn import functional as F
from tqdm import trange

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from varprompt.embedded import WEIGHTS, captions, sets, tiny_clip_state_dict  # noqa: E402
from varprompt.embedded.paint import paint  # noqa: E402
from varprompt.embedded.world import draw, load_masks  # noqa: E402

CONTEXT_LENGTH = 24  # the longest caption has 17 tokens; 24 leaves room for 16 learned ones
PIXEL_MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073))  # CLIP's, as CoOp's configs have it
PIXEL_STD = torch.tensor((0.26862954, 0.26130258, 0.27577711))
BATCH = 128
HELD_OUT_SEED = 7  # below 10^6, where no training batch draws from
HELD_OUT_PER_NAME = 20


def tokenize(texts: list[str]) -> Tensor:
    """CLIP's tokens (B, 24)."""
    return clip.tokenize(texts, context_length=CONTEXT_LENGTH)


def tiny_clip(vocab_size: int) -> CLIP:
    """A CLIP with a small ResNet tower: it learns this world; a small ViT needs hours more."""
    return CLIP(
        embed_dim=128, image_resolution=32, vision_layers=(1, 1, 1, 1), vision_width=16,
        vision_patch_size=None, context_length=CONTEXT_LENGTH, vocab_size=vocab_size,
        transformer_width=64, transformer_heads=1, transformer_layers=2,
    )  # fmt: skip


def text_features(model: CLIP, rows: Tensor) -> Tensor:
    """Unit text features (B, E) of texts that may be cut short, so the mask must be cut too."""
    length = rows.shape[1]
    x = model.token_embedding(rows) + model.positional_embedding[:length]
    x = x.transpose(0, 1)
    for block in model.transformer.resblocks:
        mask = block.attn_mask[:length, :length]
        normed = block.ln_1(x)
        x = x + block.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        x = x + block.mlp(block.ln_2(x))
    x = model.ln_final(x.transpose(0, 1))[torch.arange(len(rows)), rows.argmax(1)]
    return F.normalize(x @ model.text_projection, dim=-1)


def image_features(model: CLIP, pictures: Tensor) -> Tensor:
    """Unit image features (B, E) of pictures (B, 3, 32, 32) in [0, 1]."""
    pictures = (pictures - PIXEL_MEAN[:, None, None]) / PIXEL_STD[:, None, None]
    return F.normalize(model.encode_image(pictures), dim=-1)


def batch(seed: int, step: int, jitter: float, names: tuple[str, ...]) -> tuple:
    """Pictures (B, 3, 32, 32), labels (B,), captions and the prompts of all names of one step."""
    generator = torch.Generator().manual_seed(seed * 1_000_000 + step)
    rng = random.Random(seed * 1_000_000 + step)  # noqa: S311
    weight = torch.ones(len(names))
    weight[-10:] = 2  # digits come in 15 fonts, and their data set is real: it needs more practice
    labels = torch.multinomial(weight, BATCH, replacement=True, generator=generator)
    scene = draw(labels, generator, jitter=jitter)
    pictures = paint(scene, dtype=torch.float32)
    sentences = captions.captions(scene, [names[label] for label in labels], rng)
    template = rng.choice(captions.TEMPLATES) + rng.choice(("", "."))
    return pictures, labels, sentences, [template.format(name) for name in names]


def loss_of(model: CLIP, tokens: captions.Vocabulary, pictures: Tensor, labels: Tensor,
            sentences: list[str], prompts: list[str]) -> Tensor:
    """CLIP's symmetric loss on the captions plus classification among all names.

    The second term is what makes zero-shot classification by a bare template work within minutes.
    """
    image = image_features(model, pictures)
    text = text_features(model, tokens(sentences + prompts))
    logits = model.logit_scale.exp() * image @ text.T
    pairs, target = logits[:, :BATCH], torch.arange(BATCH)
    contrast = (F.cross_entropy(pairs, target) + F.cross_entropy(pairs.T, target)) / 2
    return contrast + F.cross_entropy(logits[:, BATCH:], labels)


def optimizer_for(model: CLIP) -> torch.optim.Optimizer:
    """AdamW that decays matrices only: norms, biases and the temperature are left alone."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.98))


def learning_rate(step: int, steps: int) -> float:
    """Warm-up over 100 steps, then a cosine to zero."""
    return 2e-3 * min(1.0, (step + 1) / 100) * (1 + math.cos(math.pi * step / steps)) / 2


def write(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save(path: Path, state: dict) -> None:
    """Write a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write(path, buffer.getvalue())


def resume(checkpoint: Path, model: CLIP, optimizer: torch.optim.Optimizer,
           plan: dict[str, int]) -> int:
    """Load an earlier checkpoint of the same plan, if there is one, and return its step."""
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, weights_only=True)
    made = {key: state[key] for key in plan}
    if made != plan:
        sys.exit(f"{checkpoint} was made with {made}, not {plan}; name another --checkpoint")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def train(seed: int, steps: int, checkpoint: Path, every: int) -> None:
    """Train to ``steps``, from the checkpoint if there is one."""
    torch.manual_seed(seed)
    names = load_masks().names
    tokens = captions.Vocabulary(tokenize, names)
    model = tiny_clip(len(tokens.ids))
    optimizer = optimizer_for(model)
    plan = {"seed": seed, "steps": steps, "threads": torch.get_num_threads()}
    start = resume(checkpoint, model, optimizer, plan)
    bar = trange(start, steps, initial=start, total=steps, desc="training", mininterval=5)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        jitter = min(1.0, 0.3 + 0.7 * step / (0.4 * steps))  # easy pictures first
        loss = loss_of(model, tokens, *batch(seed, step, jitter, names))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        bar.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
        if (step + 1) % every == 0 or step + 1 == steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                     "token_ids": tokens.ids, "step": step + 1, "loss": loss.item()}
            save(checkpoint, plan | state)


def stored_form(model: dict[str, Tensor], token_ids: Tensor) -> dict[str, Tensor]:
    """The stored form: fp16, and only the token rows that training met."""
    stored = {key: tensor.half().contiguous() for key, tensor in model.items()
              if not key.endswith("num_batches_tracked")}
    stored["token_rows"] = stored.pop("token_embedding.weight")
    return stored | {"token_ids": token_ids.int()}


@torch.no_grad()
def accuracy(model: CLIP, pictures: Tensor, labels: Tensor, names: list[str]) -> float:
    """Zero-shot accuracy in % of ``names[labels]`` with the prompt "a photo of a {}."."""
    prompts = tokenize([f"a photo of a {name}." for name in names])
    image = torch.cat([image_features(model, chunk) for chunk in pictures.float().split(500)])
    scores = image @ F.normalize(model.encode_text(prompts), dim=-1).T
    return round(100 * (scores.argmax(1) == labels).double().mean().item(), 1)


def held_out(model: CLIP) -> float:
    """Accuracy among all names on new pictures of the training world."""
    names = load_masks().names
    labels = torch.arange(len(names)).repeat(HELD_OUT_PER_NAME)
    pictures = paint(draw(labels, torch.Generator().manual_seed(HELD_OUT_SEED)))
    return accuracy(model, pictures, labels, names)


def set_figures(model: CLIP, name: str) -> dict[str, dict[str, float]]:
    """Zero-shot base and new accuracy of one embedded data set, by part of its split."""
    pictures = list(sets.SETS[name].pictures())
    classes = dict(sorted({(p.label, p.classname) for p in pictures}))
    middle, figures = (len(classes) + 1) // 2, {}
    for part in ("val", "test"):
        figures[part] = {}
        for half_name, half in (("base", range(middle)), ("new", range(middle, len(classes)))):
            chosen = [p for p in pictures if p.part == part and p.label in half]
            rgb = [np.broadcast_to(p.pixels.reshape(32, 32, -1), (32, 32, 3)) for p in chosen]
            figures[part][half_name] = accuracy(
                model, torch.from_numpy(np.stack(rgb)).permute(0, 3, 1, 2) / 255,
                torch.tensor([p.label - half[0] for p in chosen]), [classes[k] for k in half],
            )
    return figures


def export(checkpoint: Path) -> None:
    """Write the weights, measure what was written, and write the provenance beside them."""
    state = torch.load(checkpoint, weights_only=True)
    data = to_bytes(stored_form(state["model"], state["token_ids"]))
    note = {"sha256": hashlib.sha256(data).hexdigest()}
    described = WEIGHTS.with_suffix(".json")
    write(WEIGHTS, data)
    write(described, json.dumps(note).encode())
    model = build_model(tiny_clip_state_dict()).float()
    steps, planned = state["step"], state["steps"]
    note |= {
        "command": f"python scripts/make_embedded_clip.py --seed {state['seed']} --steps {planned}"
                   f" --threads {state['threads']}",
        "steps_done": steps, "steps_planned": planned,
        "date": date.today().isoformat(), "python": platform.python_version(),
        "versions": {p: importlib.metadata.version(p)
                     for p in ("torch", "numpy", "clip-anytorch", "safetensors", "scikit-learn")},
        "tokens_stored": len(state["token_ids"]), "final_training_loss": round(state["loss"], 3),
        "held_out": {
            "what": f"zero-shot accuracy in % among {len(load_masks().names)} names, 'a photo"
                    f" of a {{}}.', {HELD_OUT_PER_NAME} new pictures a name, seed {HELD_OUT_SEED}",
            "accuracy": held_out(model),
        },
        "zero_shot_base_new": {name: set_figures(model, name) for name in sets.SETS},
    }  # fmt: skip
    write(described, (json.dumps(note, indent=2) + "\n").encode())
    print(json.dumps(note, indent=2))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4000, help="batches of 128 pictures")
    parser.add_argument("--threads", type=int, default=2, help="the weights depend on it slightly")
    parser.add_argument("--checkpoint", type=Path, default=Path("output/tiny_clip/checkpoint.pt"))
    parser.add_argument("--every", type=int, default=250, help="steps between checkpoints")
    parser.add_argument("--export-only", action="store_true", help="export the checkpoint as it is")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if not args.export_only:
        train(args.seed, args.steps, args.checkpoint, args.every)
    export(args.checkpoint)


if __name__ == "__main__":
    main()
