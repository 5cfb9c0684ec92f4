"""Export a checkpoint of a tiny CLIP and measure what was written; see make_embedded_*.py."""

import hashlib
import importlib.metadata
import json
import platform
import sys
from datetime import date
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as to_bytes
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from varprompt.common.files import write_atomic  # noqa: E402
from varprompt.embedded import (  # noqa: E402
    WEIGHTS,
    sets,
    tiny_clip_state_dict,
    tiny_vit_state_dict,
)
from varprompt.embedded.paint import paint  # noqa: E402
from varprompt.embedded.world import draw, load_masks  # noqa: E402
from varprompt.towers.openai_clip import model as clip_model  # noqa: E402
from varprompt.towers.openai_clip import tokenize as clip_tokenize  # noqa: E402

CLIP = clip_model.CLIP

CONTEXT_LENGTH = 24  # a caption has up to 20 tokens, 16 learned ones with a name and its ends 22
PIXEL_MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073))  # CLIP's, as CoOp's configs have it
PIXEL_STD = torch.tensor((0.26862954, 0.26130258, 0.27577711))
HELD_OUT_SEED = 7  # below 10^6, where no training batch draws from
HELD_OUT_PER_NAME = 20


def tokenize(texts: list[str]) -> Tensor:
    """CLIP's tokens (B, 24)."""
    return clip_tokenize(texts, context_length=CONTEXT_LENGTH)


def image_features(model: CLIP, pictures: Tensor) -> Tensor:
    """Unit image features (B, E) of pictures (B, 3, 32, 32) in [0, 1]."""
    pictures = (pictures - PIXEL_MEAN[:, None, None]) / PIXEL_STD[:, None, None]
    return F.normalize(model.encode_image(pictures), dim=-1)


def stored_form(model: dict[str, Tensor], token_ids: Tensor) -> dict[str, Tensor]:
    """The stored form: fp16, and only the token rows that training met."""
    stored = {
        key: tensor.half().contiguous()
        for key, tensor in model.items()
        if not key.endswith("num_batches_tracked")
    }
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
                model,
                torch.from_numpy(np.stack(rgb)).permute(0, 3, 1, 2) / 255,
                torch.tensor([p.label - half[0] for p in chosen]),
                [classes[k] for k in half],
            )
    return figures


def write_note(note: dict, weights: Path) -> None:
    """Write the provenance beside the weights."""
    text = json.dumps(note, indent=2) + "\n"
    write_atomic(weights.with_suffix(".json"), lambda file: file.write(text.encode()))


def export(checkpoint: Path) -> None:
    """Write the weights, measure what was written, and write the provenance beside them."""
    state = torch.load(checkpoint, weights_only=True)
    stored = stored_form(state["model"], state["token_ids"])
    told = {"tokens_stored": len(state["token_ids"])}
    publish(stored, WEIGHTS, "make_embedded_clip.py", state, told)


def publish(
    stored: dict[str, Tensor], weights: Path, script: str, state: dict, told: dict
) -> None:  # fmt: skip
    """Write stored tensors, measure the model they make, and write the provenance beside them.

    Args:
        stored: what the file holds.
        weights: the file.
        script: that trained it.
        state: its checkpoint.
        told: what else the provenance says.
    """
    data = to_bytes(stored)
    note = {"sha256": hashlib.sha256(data).hexdigest()}
    write_atomic(weights, lambda file: file.write(data))
    write_note(note, weights)
    made = tiny_clip_state_dict() if weights == WEIGHTS else tiny_vit_state_dict()
    model = clip_model.build_model(made).float()
    steps, planned = state["step"], state["steps"]
    end = f" --end {state['end']}" if state.get("end", planned) != planned else ""
    note |= {
        "command": f"python scripts/{script} --seed {state['seed']} --steps {planned}{end}"
                   f" --threads {state['threads']}",
        "steps_done": steps, "steps_planned": planned,
        "date": date.today().isoformat(), "python": platform.python_version(),
        "versions": {p: importlib.metadata.version(p)
                     for p in ("torch", "numpy", "clip-anytorch", "safetensors", "scikit-learn")},
        **told, "final_training_loss": round(state["loss"], 3),
        "held_out": {
            "what": f"zero-shot accuracy in % among {len(load_masks().names)} names, 'a photo"
                    f" of a {{}}.', {HELD_OUT_PER_NAME} new pictures a name, seed {HELD_OUT_SEED}",
            "accuracy": held_out(model),
        },
        "zero_shot_base_new": {name: set_figures(model, name) for name in sets.SETS},
    }  # fmt: skip
    write_note(note, weights)
    print(json.dumps(note, indent=2))
