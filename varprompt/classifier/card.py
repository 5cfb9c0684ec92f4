"""The model card of a classifier: what it knows, from what, how well, and what it is not for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..common.characters import printable
from ..uncertainty import ece, ece_if_calibrated, risk_threshold
from .learned import HeldOut, Learned

MARK = "<!-- Written by varprompt. Without this line, the text stays when a classifier is saved -->"
_MOST_CLASSES = 200  # rows of the table
_RISK = 0.05

_NOT_FOR = """## What it must not be used for

- **Other images than those it was learned from are like.** It answers with one of its classes,
  whatever is shown; a low epistemic uncertainty does not mean that an image is of a known kind.
- **Decisions about people**: who somebody is, health, work, credit, law, police, borders,
  surveillance. CLIP has learned from captions of the web, with the prejudices in them.
- **Anything where a wrong answer harms and nobody checks it**: machines, traffic, medicine, food
  (mushrooms, plants, pills).
- **Other classes as if they were tested**: `with_classes` answers for any names, but nothing is
  known of how often it is right, and the temperature is that of the classes above.
- What the model card and the licence of the CLIP exclude: they hold here, too.
"""


def card_text(learned: Learned, described: Mapping[str, Any]) -> str:
    """The card below its head, in Markdown.

    Args:
        learned: the classifier.
        described: `PromptClassifier.describe` without paths.
    """
    clip = described["clip"]
    parts = [
        MARK,
        f"# Classifier of images: {len(learned.names)} classes",
        f"Prompts learned in front of the frozen CLIP {_plain(clip['source'])} (weights SHA-256 "
        f"`{clip['weights_sha256']}`), which is not part of these files. Says of an image the "
        "probability of each class, and how uncertain that is: total = aleatoric (what the samples "
        "of the prompts agree on) + epistemic (what they disagree about).",
        "```python\nfrom varprompt import PromptClassifier\n\n"
        'clf = PromptClassifier.from_pretrained("OWNER/NAME")  # or a folder\n'
        'clf.predict_proba(["photo.jpg"])\nclf.uncertainty(["photo.jpg"])\n```',
        f"## Classes\n\n{_classes(learned)}",
        f"## Data\n\n{_data(learned.counts)}",
        f"## Calibration\n\n{_calibration(learned.held_out, learned.temperature)}",
        _NOT_FOR,
    ]
    return "\n\n".join(parts)


def _classes(learned: Learned) -> str:
    counts = learned.counts.get("learned_from", {})
    shown = list(zip(learned.labels.tolist(), learned.names, strict=True))[:_MOST_CLASSES]
    rows = [
        f"| {_plain(label)} | {_plain(name)} | {counts.get(name, 'not stated')} |"
        for label, name in shown
    ]
    lines = ["| label | in prompts | images learned from |", "|---|---|---:|", *rows]
    if left := len(learned.names) - len(shown):
        lines.append(f"\n{left} more are in classifier.json.")
    if learned.texts:
        lines.append("\nClasses have several texts; classifier.json lists them (`prompts`).")
    return "\n".join(lines)


def _data(counts: Mapping[str, Any]) -> str:
    per_class = counts.get("learned_from", {}).values()
    if per_class:
        said = (
            f"Learned from {sum(per_class):,} images, {min(per_class):,} to {max(per_class):,} a "
            f"class; {counts.get('held_out', 0):,} others were held out."
        )
    else:
        said = "From how many images it was learned is not stated."
    return (
        f"{said} No image is part of these files.\n\n"
        "Whence the images come, who or what is on them, their licence, and what they lack: **not "
        "stated**. Whoever publishes this writes it here."
    )


def _calibration(held: HeldOut | None, temperature: float) -> str:
    if held is None:
        return (
            "Not calibrated on images of these classes, and nothing is known of errors: test it on "
            "images of your own before you believe its probabilities."
        )
    right, n = int(held.correct.sum()), len(held.correct)
    confidence = held.confidence.double()
    limit = risk_threshold(held.confidence, held.correct, _RISK)
    expected = ece_if_calibrated(confidence)["mean"]
    lines = [
        "| on the held-out images | |", "|---|---:|",
        f"| images | {n:,} |",
        f"| right | {right:,} ({100 * right / n:.1f} %) |",
        f"| mean probability of the answer | {100 * confidence.mean():.1f} % |",
        f"| expected calibration error | {100 * ece(confidence, held.correct):.1f} % |",
        f"| the same, if it were calibrated, on as many images | {expected:.1f} % |",
        f"| temperature | {temperature:.3f} |",
    ]  # fmt: skip
    if limit.coverage:
        kept = (
            f"Of answers with a probability above {100 * max(limit.threshold, 0):.1f} % "
            f"({100 * limit.coverage:.0f} % of the held-out images) at most {100 * _RISK:g} % are "
            f"wrong, with a certainty of {100 * (1 - limit.delta):g} %, for images like these."
        )
    else:
        kept = f"No probability promises that at most {100 * _RISK:g} % of the answers are wrong."
    chosen = (
        "The temperature was chosen on these images" if temperature != 1 else
        "These images told no temperature"
    )  # fmt: skip
    return "\n".join(lines) + f"\n\n{kept} {chosen}; other images may fare worse."


def _plain(text: object) -> str:
    """Text in which no character means anything to Markdown or HTML."""
    return re.sub(r"[^\w ,.]|_", lambda found: f"&#{ord(found[0])};", printable(text))
