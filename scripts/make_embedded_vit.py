"""Train the tiny CLIP with a vision transformer of the embedded benchmark and export it.

    python scripts/make_embedded_vit.py                   # train (or resume), then export
    python scripts/make_embedded_vit.py --export-only     # export the latest checkpoint

It has the text tower of the tiny CLIP (make_embedded_clip.py), unchanged, and a transformer for
images. Such a tower learns slowly from labels alone, so it is taught by the ResNet: its tokens by
the maps behind the ResNet's stages, its features by the ResNet's, and by the names themselves.

Training is a function of seed, steps and thread count, as that of the first one.
"""

import hashlib
import math
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import trange

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
from export_embedded_clip import (  # noqa: E402
    CLIP,
    CONTEXT_LENGTH,
    PIXEL_MEAN,
    PIXEL_STD,
    publish,
    tokenize,
)
from make_embedded_clip import draw_batch, optimizer_of, parser, state_of  # noqa: E402

from varprompt.common.files import write  # noqa: E402
from varprompt.embedded import VIT_WEIGHTS, WEIGHTS  # noqa: E402
from varprompt.embedded.world import load_masks  # noqa: E402
from varprompt.towers.load import load_clip  # noqa: E402

WIDTH, LAYERS, PATCH = 128, 4, 8
GRID = 32 // PATCH
BATCH, STEPS, RATE = 64, 12000, 1.2e-3
COOLING = 1500
STAGES = (64, 128, 256, 512)  # channels behind the stages of the ResNet ...
SIDES = (4, 4, 2, 1)  # ... and pixels of their maps, of which the first is halved to the grid
HINTS_END = 0.7  # of the steps: from there on the maps are not taught any more


def vit_clip(vocab_size: int = 49_408) -> CLIP:
    """A CLIP with a small vision transformer and the tiny CLIP's text tower."""
    model = CLIP(
        embed_dim=128, image_resolution=32, vision_layers=LAYERS, vision_width=WIDTH,
        vision_patch_size=PATCH, context_length=CONTEXT_LENGTH, vocab_size=vocab_size,
        transformer_width=64, transformer_heads=1, transformer_layers=2,
    )  # fmt: skip
    with torch.no_grad():  # places that are known from the beginning need not be learned
        model.visual.positional_embedding[1:] = 0.5 * waves()
    return model


def waves() -> Tensor:
    """Sines and cosines of row and column `(GRID * GRID, WIDTH)`, four octaves of frequencies."""
    rates = math.pi * 2 ** torch.linspace(-3, 0, WIDTH // 4)
    angle = torch.arange(GRID)[:, None] * rates  # (GRID, WIDTH / 4)
    line = torch.cat([angle.sin(), angle.cos()], 1)
    rows, columns = line[:, None].expand(-1, GRID, -1), line[None].expand(GRID, -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)


class Lesson(nn.Module):
    """The student with what is needed to teach it: the ResNet and a linear map for each stage."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = load_clip("embedded")
        self.student = vit_clip().visual
        self.heads = nn.ModuleList(nn.Linear(WIDTH, n) for n in STAGES)

    @torch.no_grad()
    def names(self, prompts: list[str]) -> Tensor:
        """Unit text features (N, E)."""
        return F.normalize(self.teacher.encode_text(tokenize(prompts)), dim=-1)

    @torch.no_grad()
    def taught(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The ResNet's unit features (B, E) and its standardised maps behind every stage."""
        tower, maps = self.teacher.visual, []
        stages = (tower.layer1, tower.layer2, tower.layer3, tower.layer4)
        hooks = [s.register_forward_hook(lambda m, i, out: maps.append(out)) for s in stages]
        features = F.normalize(tower(pictures), dim=-1)
        for hook in hooks:
            hook.remove()
        maps = [F.adaptive_avg_pool2d(m, min(GRID, m.shape[-1])).movedim(1, -1) for m in maps]
        return features, [F.layer_norm(m, m.shape[-1:]) for m in maps]

    def learned(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The transformer's unit features and, after each layer, its guess of a stage's map."""
        kept: list[Tensor] = []
        blocks = self.student.transformer.resblocks
        hooks = [b.register_forward_hook(lambda m, i, out: kept.append(out)) for b in blocks]
        features = F.normalize(self.student(pictures), dim=-1)
        for hook in hooks:
            hook.remove()
        guesses = []
        for tokens, head, side in zip(kept, self.heads, SIDES, strict=True):
            grid = tokens[1:].permute(1, 2, 0).unflatten(2, (GRID, GRID))  # (B, W, GRID, GRID)
            guesses.append(head(F.adaptive_avg_pool2d(grid, side).movedim(1, -1)))
        return features, guesses

    def loss(self, pictures: Tensor, labels: Tensor, prompts: list[str], hints: float) -> Tensor:
        """Names, the ResNet's opinion about them, its features, and `hints` times its maps."""
        pictures = (pictures - PIXEL_MEAN[:, None, None]) / PIXEL_STD[:, None, None]
        wanted, maps = self.taught(pictures)
        got, guesses = self.learned(pictures)
        text, scale = self.names(prompts), self.teacher.logit_scale.exp()
        logits, opinion = scale * got @ text.T, scale * wanted @ text.T
        loss = F.cross_entropy(logits, labels) + F.cross_entropy(logits, opinion.softmax(-1))
        loss = loss + 5 * (1 - (got * wanted).sum(-1)).mean()
        if hints:
            pairs = zip(guesses, maps, strict=True)
            loss = loss + hints * sum(F.mse_loss(guess, truth) for guess, truth in pairs)
        return loss


def resume(
    checkpoint: Path, lesson: Lesson, optimizer: torch.optim.Optimizer, plan: dict, end: int
) -> int:  # fmt: skip
    """Load an earlier checkpoint of the same plan, if there is one, and return its step."""
    state = state_of(checkpoint, plan)
    if state is None:
        return 0
    if state["end"] != end and state["step"] > min(state["end"], end) - COOLING:
        sys.exit(f"{checkpoint} has begun to end at {state['end']}; name another --checkpoint")
    lesson.student.load_state_dict(state["model"])
    lesson.heads.load_state_dict(state["heads"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def rate_of(step: int, steps: int, end: int) -> float:
    """Warm-up over 200 steps, a cosine that would be zero after ``steps``, and a straight end.

    If training ends earlier, the last ``COOLING`` steps go from where the cosine is to zero.
    """
    left = min(1.0, (end - step) / COOLING) if end < steps else 1.0
    at = min(step, end - COOLING) if end < steps else step
    return left * RATE * min(1.0, (step + 1) / 200) * (1 + math.cos(math.pi * at / steps)) / 2


def train(seed: int, steps: int, end: int, checkpoint: Path, every: int) -> None:
    """Train to ``end`` of ``steps`` planned ones, from the checkpoint if there is one."""
    torch.manual_seed(seed)
    names, lesson = load_masks().names, Lesson()
    learned = [p for part in (lesson.student, lesson.heads) for p in part.parameters()]
    optimizer = optimizer_of(learned, RATE, decay=0.05)
    plan = {"seed": seed, "steps": steps, "threads": torch.get_num_threads()}
    start = resume(checkpoint, lesson, optimizer, plan, end)
    bar = trange(start, end, initial=start, total=end, desc="training", mininterval=5)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = rate_of(step, steps, end)
        jitter = min(1.0, 0.3 + 0.7 * step / (0.3 * steps))  # easy pictures first
        batch = draw_batch(seed, step, jitter, names, BATCH)
        hints = max(0.0, 1 - step / (HINTS_END * steps))
        loss = lesson.loss(batch.pictures, batch.labels, batch.prompts, hints)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(lesson.student.parameters(), 1.0)
        optimizer.step()
        bar.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
        if (step + 1) % every == 0 or step + 1 == end:
            state = {
                "model": lesson.student.state_dict(),
                "heads": lesson.heads.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
                "end": end,
                "loss": loss.item(),
            }
            write(plan | state, checkpoint)


def export(checkpoint: Path) -> None:
    """Write the image tower in half precision, with its provenance."""
    state = torch.load(checkpoint, weights_only=True)
    stored = {f"visual.{key}": value.half() for key, value in state["model"].items()}
    teacher = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    told = {"text_tower_and_teacher": {"file": WEIGHTS.name, "sha256": teacher}}
    publish(stored, VIT_WEIGHTS, "make_embedded_vit.py", state, told)


def main() -> None:
    """Train, then export."""
    p = parser(__doc__, BATCH, STEPS, threads=1)
    p.add_argument("--end", type=int, help=f"end earlier; the last {COOLING} steps cool down")
    p.set_defaults(checkpoint=Path("output/tiny_vit/checkpoint.pt"))
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    if not args.export_only:
        train(args.seed, args.steps, args.end or args.steps, args.checkpoint, args.every)
    export(args.checkpoint)


if __name__ == "__main__":
    main()
