"""What is found about a model, as text for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..common.characters import printable
from .texts import ClassTexts, Neighbour, neighbours
from .words import Context, Vocabulary, Word

_MOST_CLASSES = 20  # lines of the text; JSON has all


@dataclass(frozen=True)
class Named:
    """A context with the words nearest to each of its vectors.

    Attributes:
        context: the vectors.
        words: by the metric that was asked for.
        gaps: Euclidean distance of each vector from the nearest word, whatever the metric.
    """

    context: Context
    words: list[list[Word]]
    gaps: list[float]


@dataclass(frozen=True)
class Findings:
    """All that is said.

    Attributes:
        model: what was asked about, in words.
        clip: where its CLIP comes from.
        contexts: each with its words.
        usual: median distance of a word from the nearest other one.
        metric: what "nearest" means.
        texts: of the classes, before and after.
        classnames: their names.
        class_words: see `PromptConfig`; contexts are shown without it.
    """

    model: str
    clip: str
    contexts: list[Named]
    usual: float
    metric: str
    texts: ClassTexts
    classnames: Sequence[str]
    class_words: float = 0.0


def name_contexts(
    contexts: Sequence[Context], vocabulary: Vocabulary, n: int, metric: str
) -> list[Named]:
    """The `n` nearest words of every vector."""
    named = []
    for context in contexts:
        gaps = [best.distance for [best] in vocabulary.nearest(context.vectors, 1)]
        named.append(Named(context, vocabulary.nearest(context.vectors, n, metric), gaps))
    return named


def to_json(found: Findings) -> str:
    """Everything, distances in the units of the token embeddings."""
    before, after = neighbours(found.texts.before), neighbours(found.texts.after)
    return json.dumps({
        "model": found.model, "clip": found.clip, "metric": found.metric,
        "distance_between_words": found.usual,
        "class_words": found.class_words,
        "contexts": [_context(named) for named in found.contexts],
        "templates_before": found.texts.templates,
        "nearest_wrong_class": [
            {
                "class": found.classnames[i],
                "before": _neighbour(before[i], found.classnames),
                "after": _neighbour(after[i], found.classnames),
            }
            for i in range(len(after))
        ],
    }, indent=1)  # fmt: skip


def _context(named: Named) -> dict[str, Any]:
    context = named.context
    return {
        "name": context.name,
        "vectors": [
            {
                "length": context.vectors[m].norm().item(),
                "noise": context.reach[m].item(),
                "moved_by_image": context.moved[m].item(),
                "noise_in_distances": _share(context.reach[m].item(), named.gaps[m]),
                "words": [
                    {"word": w.text, "distance": w.distance, "cosine": w.cosine} for w in words
                ],
            }
            for m, words in enumerate(named.words)
        ],
    }


def _neighbour(neighbour: Neighbour, names: Sequence[str]) -> dict[str, Any]:
    return {"class": names[neighbour.index], "cosine": neighbour.cosine}


def _share(reach: float, gap: float) -> float | None:
    """Noise in units of the distance to the nearest word; None where the vector is that word."""
    return reach / gap if gap > 0 else None


def to_text(found: Findings) -> str:
    """Tables: contexts with their words, then nearest wrong classes."""
    lines = [
        f"{printable(found.model)}, on {printable(found.clip)}",
        f"nearest by {found.metric} distance; a word is {found.usual:.3g} from the nearest other "
        "word (median)",
    ]
    if found.class_words:
        lines.append(
            "shown is what all classes share; the context of a class is "
            f"{found.class_words:g} * (mean of its words - mean of the template) beside it"
        )
    for named in found.contexts:
        lines += ["", *_context_lines(named)]
    return "\n".join([*lines, "", *_class_lines(found)])


def _context_lines(named: Named) -> list[str]:
    context = named.context
    noisy, moves = bool(context.reach.any()), bool(context.moved.any())
    head = f"{'token':>5} {'length':>7}{'   noise   reach' if noisy else ''}"
    lines = [printable(context.name)] if context.name else []
    lines.append(f"{head}{'  by image' if moves else ''}  nearest words (distance, cosine)")
    for m, words in enumerate(named.words):
        share = _share(context.reach[m].item(), named.gaps[m])
        reach = f"{'-':>7}" if share is None else f"{share:6.2f}x"
        noise = f" {context.reach[m]:7.3g} {reach}" if noisy else ""
        image = f"  {context.moved[m]:8.3g}" if moves else ""
        listed = ", ".join(f"{printable(w.text)} ({w.distance:.3g}, {w.cosine:.2f})" for w in words)
        lines.append(f"{m + 1:5} {context.vectors[m].norm():7.3g}{noise}{image}  {listed}")
    return lines


def _class_lines(found: Findings) -> list[str]:
    before, after = neighbours(found.texts.before), neighbours(found.texts.after)
    if not after:
        return ["one class: there is no wrong one"]
    names = [printable(name) for name in found.classnames]
    order = sorted(range(len(after)), key=lambda i: -after[i].cosine)
    width = min(max(map(len, [*names, "nearest before"])), 30)
    lines = [
        f"{'class':{width}}  {'nearest before':{width}} cosine  {'nearest after':{width}} cosine"
    ]
    for i in order[:_MOST_CLASSES]:
        pairs = "  ".join(
            f"{names[n.index][:width]:{width}} {n.cosine:6.3f}" for n in (before[i], after[i])
        )
        lines.append(f"{names[i][:width]:{width}}  {pairs}")
    if len(order) > _MOST_CLASSES:
        lines.append(f"... and {len(order) - _MOST_CLASSES} classes more (--format json has all)")
    means = (sum(n.cosine for n in part) / len(part) for part in (before, after))
    return [
        *lines,
        "mean cosine to the nearest wrong class: {:.3f} before, {:.3f} after".format(*means),
    ]
