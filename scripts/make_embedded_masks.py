"""Draw the silhouettes of the embedded benchmark's 106 things and write masks.npz.

    python scripts/make_embedded_masks.py

The result is in the repository, so that pictures do not depend on installed fonts; run this only
to change the things. Needs Pillow and matplotlib, for the DejaVu, STIX and Computer Modern fonts
that it ships.
"""

import math
import sys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from varprompt.embedded.world import MASKS  # noqa: E402

GLYPHS = {
    "sun": "☀☼", "cloud": "☁", "umbrella": "☂☔", "snowman": "☃", "star": "★☆", "telephone": "☎☏",
    "coffee": "☕", "shamrock": "☘", "hand": "☛☞", "skull": "☠", "radiation": "☢", "biohazard": "☣",
    "ankh": "☥", "peace": "☮", "yin yang": "☯", "wheel": "☸", "sad face": "☹", "smiley": "☺☻",
    "moon": "☽☾", "mercury": "☿", "venus": "♀", "mars": "♂", "jupiter": "♃", "saturn": "♄",
    "uranus": "♅", "neptune": "♆", "ram": "♈", "bull": "♉", "twins": "♊", "crab": "♋",
    "lion": "♌", "scorpion": "♏", "archer": "♐", "fish": "♓", "king": "♔♚",
    "queen": "♕♛", "rook": "♖♜",
    "bishop": "♗♝", "knight": "♘♞", "pawn": "♙♟", "spade": "♠♤", "heart": "♥♡", "diamond": "♦♢",
    "club": "♣♧", "note": "♪♩", "music": "♫♬", "sharp": "♯", "recycling": "♻♺", "wheelchair": "♿",
    "dice": "⚄⚅⚃", "flag": "⚐⚑", "hammer": "⚒", "anchor": "⚓", "swords": "⚔", "scales": "⚖",
    "flask": "⚗", "tulip": "⚘", "gear": "⚙", "atom": "⚛", "lily": "⚜", "warning": "⚠",
    "lightning": "⚡", "coffin": "⚰", "vase": "⚱", "coin": "⛁⛃", "scissors": "✂✄", "airplane": "✈",
    "envelope": "✉", "victory": "✌", "pencil": "✎✏✐", "check": "✓✔", "snowflake": "❄❅❆",
    "flower": "✿❀", "arrow": "➔➞", "mouse": "🐭", "cow": "🐮", "cat": "🐱", "monkey": "🐵",
    "dollar": "$", "infinity": "∞",
}  # fmt: skip
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SYMBOL_FONTS = ("DejaVuSans", "DejaVuSans-Bold")
DIGIT_FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif",
    "DejaVuSansMono-Oblique", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral",
    "STIXGeneralBol", "STIXGeneralItalic", "cmr10", "cmss10", "cmtt10", "cmb10",
)  # fmt: skip
EDGE, MARGIN, FINE = 40, 5, 8  # mask size, free border (blur and outlines need it), supersampling


def _fit(picture) -> np.ndarray:
    """Crop a large drawing to its ink and centre it in an EDGE x EDGE mask."""
    picture = picture.crop(picture.getbbox())
    room = (EDGE - 2 * MARGIN) / max(picture.size)
    size = [max(1, round(side * room)) for side in picture.size]
    canvas = Image.new("L", (EDGE, EDGE))
    offset = [(EDGE - side) // 2 for side in size]
    canvas.paste(picture.resize(size, Image.Resampling.BOX), tuple(offset))
    return np.asarray(canvas)


def _glyph(character: str, font: str) -> np.ndarray:
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
    picture = Image.new("L", (EDGE * FINE * 2, EDGE * FINE * 2))
    ImageDraw.Draw(picture).text(
        (EDGE * FINE // 2, EDGE * FINE // 4),
        character,
        font=ImageFont.truetype(path, EDGE * FINE),
        fill=255,
    )
    return _fit(picture)


def _regular(corners: int) -> list[tuple[float, float]]:
    turn = [2 * math.pi * i / corners - math.pi / 2 for i in range(corners)]
    return [(math.cos(t), math.sin(t)) for t in turn]


def _shapes() -> dict[str, np.ndarray]:
    """Sixteen drawn shapes; coordinates run from -1 to 1, y down."""
    edge = EDGE * FINE
    drawn = {}

    def sketch(name: str, *parts: tuple) -> None:
        picture = Image.new("L", (edge, edge))
        pen = ImageDraw.Draw(picture)
        for kind, points, ink in parts:
            spots = [((x + 1.2) * edge / 2.4, (y + 1.2) * edge / 2.4) for x, y in points]
            if kind == "line":
                pen.line(spots, fill=ink, width=edge // 12, joint="curve")
            elif kind == "disc":
                pen.ellipse([spots[0], spots[1]], fill=ink)
            else:
                pen.polygon(spots, fill=ink)
        drawn[name] = _fit(picture)

    def disc(radius: float, ink: int = 255) -> tuple:
        return "disc", [(-radius, -radius), (radius, radius)], ink

    def box(left: float, top: float, right: float, bottom: float, ink: int = 255) -> tuple:
        return "fill", [(left, top), (right, top), (right, bottom), (left, bottom)], ink

    def line(*points: tuple[float, float]) -> tuple:
        return "line", list(points), 255

    turn = [i * 0.05 for i in range(40, 360)]
    spiral = [(t / 18 * math.cos(t), t / 18 * math.sin(t)) for t in turn]
    ripple = [(x / 50 - 1, 0.4 * math.sin(x / 50 * 2.5 * math.pi)) for x in range(101)]
    sketch("circle", disc(1))
    sketch("ring", disc(1), disc(0.62, 0))
    sketch("square", box(-1, -1, 1, 1))
    sketch("triangle", ("fill", _regular(3), 255))
    sketch("pentagon", ("fill", _regular(5), 255))
    sketch("semicircle", disc(1), box(-1.1, 0, 1.1, 1.1, 0))
    sketch("plus", box(-1, -0.3, 1, 0.3), box(-0.3, -1, 0.3, 1))
    sketch("spiral", line(*spiral))
    sketch("zigzag", line((-1, 0.4), (-0.5, -0.4), (0, 0.4), (0.5, -0.4), (1, 0.4)))
    sketch("wave", line(*ripple))
    sketch(
        "grid",
        *(line((a, -1), (a, 1)) for a in (-0.9, -0.3, 0.3, 0.9)),
        *(line((-1, a), (1, a)) for a in (-0.9, -0.3, 0.3, 0.9)),
    )
    sketch(
        "house",
        ("fill", [(-1, -0.1), (0, -1), (1, -0.1)], 255),
        box(-0.75, -0.1, 0.75, 0.9),
        box(-0.2, 0.3, 0.2, 0.9, 0),
    )
    sketch("hourglass", ("fill", [(-0.8, -1), (0.8, -1), (-0.8, 1), (0.8, 1)], 255))
    sketch(
        "ladder",
        line((-0.5, -1), (-0.5, 1)),
        line((0.5, -1), (0.5, 1)),
        *(line((-0.5, a), (0.5, a)) for a in (-0.7, -0.23, 0.23, 0.7)),
    )
    sketch(
        "stairs",
        (
            "fill",
            [
                (-1, 1),
                (-1, 0.5),
                (-0.33, 0.5),
                (-0.33, -0.2),
                (0.33, -0.2),
                (0.33, -0.9),
                (1, -0.9),
                (1, 1),
            ],
            255,
        ),
    )
    sketch("target", disc(1), disc(0.72, 0), disc(0.42))
    return drawn


def make_masks() -> None:
    """Draw every silhouette and write masks.npz."""
    things = {
        name: [_glyph(c, font) for c in characters for font in SYMBOL_FONTS]
        for name, characters in GLYPHS.items()
    }
    things |= {name: [mask] for name, mask in _shapes().items()}
    things |= {
        name: [_glyph(str(digit), font) for font in DIGIT_FONTS]
        for digit, name in enumerate(DIGITS)
    }
    unique = {
        name: list({mask.tobytes(): mask for mask in masks}.values())
        for name, masks in things.items()
    }
    owner = [label for label, masks in enumerate(unique.values()) for _ in masks]
    pixels = np.stack([mask for masks in unique.values() for mask in masks])
    np.savez_compressed(MASKS, pixels=pixels, owner=np.int16(owner), names=list(unique))
    print(f"{len(pixels)} masks of {len(unique)} things, {MASKS.stat().st_size} bytes")


if __name__ == "__main__":
    make_masks()
