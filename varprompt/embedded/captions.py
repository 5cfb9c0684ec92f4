"""The sentences that the tiny CLIP was trained on: the only words it knows."""

import random
from collections.abc import Callable

import torch
from torch import Tensor

from .world import COLOURS, STYLES, TEXTURES, Scene

GENERIC = (
    "a photo of a {}", "a picture of the {}", "an image of a {}", "a good photo of the {}",
    "a bad photo of the {}", "art of the {}", "itap of a {}", "a {} in a video game",
    "a photo of the large {}", "a photo of the small {}", "a origami {}", "a {}",
)  # fmt: skip
STYLED = {
    "photo": ("a photo of the {}", "a clean photo of a {}"),
    "sketch": ("a pencil sketch of the {}", "a sketch of a {}"),
    "blurry": ("a blurry photo of the {}", "a blurry photo of a {}"),
    "noisy": ("a noisy photo of the {}", "a noisy image of a {}"),
    "pixelated": ("a pixelated photo of the {}", "a low resolution photo of a {}"),
    "dark": ("a dark photo of the {}", "a photo of a {} at night"),
    "painting": ("a painting of the {}", "a painting of a {}"),
    "cartoon": ("a cartoon {}", "a cartoon of the {}"),
    "gray": ("a black and white photo of the {}", "a gray photo of a {}"),
}
COLOURLESS = ("sketch", "gray")  # these styles hide the colour, so naming it would be noise
TEMPLATES = GENERIC + tuple(template for pair in STYLED.values() for template in pair)


def caption(
    name: str, colour: str, background: str, texture: str, style: str, rng: random.Random
) -> str:
    """One true sentence about a picture; what it mentions is random."""
    template = rng.choice(STYLED[style] if rng.random() < 0.6 else GENERIC)
    colourless = style in COLOURLESS
    words = [name]
    if style != "sketch" and rng.random() < 0.4:
        words.insert(0, texture)
    if not colourless and rng.random() < 0.5:
        words.insert(0, colour)
    if not colourless and rng.random() < 0.2:
        words.append(f"on a {background} background")
    return template.format(" ".join(words)) + ("." if rng.random() < 0.5 else "")


def captions(scene: Scene, names: list[str], rng: random.Random) -> list[str]:
    """One sentence for each of the B pictures of ``scene``; ``names`` are the B things shown."""
    colours = list(COLOURS)
    picks = zip(
        names,
        scene.foreground.tolist(),
        scene.background.tolist(),
        scene.texture.tolist(),
        scene.style.tolist(),
        strict=True,
    )
    return [
        caption(name, colours[front], colours[back], TEXTURES[texture], STYLES[style], rng)
        for name, front, back, texture, style in picks
    ]


class Vocabulary:
    """The few tokens that captions use, numbered from 0 in the order of the full vocabulary.

    Training a table of these rows instead of all 49,408 saves time; the order keeps the
    end-of-text token the largest number, which is how CLIP finds it.
    """

    def __init__(self, tokenize: Callable[[list[str]], Tensor], names: tuple[str, ...]):
        words = [*names, *COLOURS, *TEXTURES, "on a background", "."]
        words += [template.format(end) for template in TEMPLATES for end in ("sun", "sun.")]
        self.tokenize = tokenize
        self.ids = tokenize(words).unique()  # (V,)
        self.row = torch.full((int(self.ids.max()) + 1,), -1)
        self.row[self.ids] = torch.arange(len(self.ids))

    def __call__(self, texts: list[str]) -> Tensor:
        """Row numbers (B, T), cut behind the longest text."""
        tokens = self.tokenize(texts)
        return self.row[tokens[:, : int(tokens.argmax(1).max()) + 1]]
