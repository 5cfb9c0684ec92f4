"""What the page shows, as plain functions: photos in, HTML out. Knows no web framework."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import VarPromptError
from ..images.stream import stream_images
from ..predict.judge import RISK, Judge, known_of_errors
from ..predict.model_flags import class_lines
from ..predict.rows import UNCERTAINTIES, Row
from ..predict.sheet import COLOURS, PICTURE_STYLE, escaped, figure

if TYPE_CHECKING:
    from ..classifier import PromptClassifier

MOST = 200  # photos at a time: a page stays quick to draw, and one answer takes seconds
_TOP = 5  # classes with a bar
_TOGETHER = 32  # photos encoded at once
_THUMBNAIL = 320  # pixels
_REMEMBERED = 8  # class lists whose texts are kept


@dataclass(frozen=True)
class Photos:
    """Photos as they were dropped: encoded once, whatever classes are asked for.

    Attributes:
        names: of the N files that could be read.
        features: of unit norm, `(N, E)`, on the CPU.
        thumbnails: a JPEG file of each.
        problems: what was left out, and why.
    """

    names: list[str] = field(default_factory=list)
    features: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    thumbnails: list[bytes] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Answers:
    """A model behind a page.

    Args:
        classifier: fitted.
        name: of the model, for its users.
        risk: share of wrong answers above which an answer is marked as unsure.
    """

    def __init__(self, classifier: PromptClassifier, name: str, risk: float = RISK):
        self.name = name
        self.risk = risk
        self.own_classes = "\n".join(classifier.class_names_)
        self._own = classifier
        self._judges: OrderedDict[tuple[str, ...], tuple[Judge, str]] = OrderedDict()

    @torch.no_grad()
    def take(self, files: Sequence[str] | None) -> Photos:
        """Read and encode files; what cannot be read is named by its last part."""
        files = list(files or [])
        taken = Photos()
        learned, features = self._own.learned_, []
        for batch in stream_images(
            files[:MOST], learned.transform, _TOGETHER, thumbnail=_THUMBNAIL
        ):
            taken.names.extend(PurePath(path).name for path in batch.paths)
            taken.thumbnails.extend(batch.thumbnails)
            taken.problems.extend(_without_folder(line, files) for line in batch.unreadable)
            if batch.paths:
                features.append(learned.encode_image(batch.images).cpu())
        if len(files) > MOST:
            more = len(files) - MOST
            taken.problems.append(f"{more} more: {MOST} photos are taken at a time")
        every = torch.cat(features) if features else taken.features
        return Photos(taken.names, every, taken.thumbnails, taken.problems)

    def show(self, photos: Photos, classes: str) -> str:
        """What the model says of photos, as HTML.

        Args:
            photos: from `take`.
            classes: names, one a line; none = those of the model.
        """
        try:
            judge, known = self._judge(tuple(class_lines(classes)))
        except VarPromptError as error:
            return _page([f'<p role="alert" class="unsure">{escaped(str(error))}</p>'])
        rows = judge.rows_of(photos.names, photos.features) if photos.names else []
        parts = [f"<p>{escaped(_summary(rows, known))}</p>"]
        if photos.problems:
            listed = "".join(f"<li>{escaped(line)}</li>" for line in photos.problems)
            parts.append(f"<p>Left out:</p><ul>{listed}</ul>")
        figures = [
            figure(row, jpeg, _uncertainties(row))
            for row, jpeg in zip(rows, photos.thumbnails, strict=True)
        ]
        parts.append(f'<div class="grid">{"".join(figures)}</div>')
        return _page(parts)

    def _judge(self, names: tuple[str, ...]) -> tuple[Judge, str]:
        """Who answers for these classes, and what is known of its errors.

        Raises:
            VarPromptError: names that cannot be.
        """
        own = tuple(self._own.class_names_)
        names = names or own
        if names not in self._judges:
            model = self._own if names == own else self._own.with_classes(names)
            limit, known = known_of_errors(model.learned_, self.risk, self.name)
            self._judges[names] = Judge(model.learned_, _TOP, limit), known
            if len(self._judges) > _REMEMBERED:
                self._judges.popitem(last=False)
        self._judges.move_to_end(names)
        return self._judges[names]


def _summary(rows: Sequence[Row], known: str) -> str:
    if not rows:
        return "Drop photos to see what the model says."
    n_unsure = sum(bool(row.unsure) for row in rows)
    unsure = f", {n_unsure} unsure" if rows[0].unsure is not None else ""
    return f"{len(rows)} photo{'s' * (len(rows) > 1)}{unsure}; {known}."


def _uncertainties(row: Row) -> str:
    """Total, aleatoric and epistemic uncertainty as a small table."""
    cells = "".join(
        f"<tr><td>{name}</td><td>{value:.3f}</td></tr>"
        for name, value in zip(UNCERTAINTIES, row.uncertainty, strict=True)
    )
    return f'<table class="nats"><caption>uncertainty in nats</caption>{cells}</table>'


def _without_folder(problem: str, files: Sequence[str]) -> str:
    """A problem with the names of files that people know, not where they were put."""
    for file in files:
        problem = problem.replace(file, PurePath(file).name)
    return problem


_STYLE = """color: var(--ink);
p { margin: .2rem 0 .8rem; }
ul { margin: 0 0 .8rem; padding-left: 1.2rem; list-style: disc; }
.nats { width: 100%; font-size: .75rem; color: var(--soft); border-collapse: collapse;
  margin: .3rem 0 0; border-top: 1px solid var(--line); }
.nats caption { text-align: left; padding-top: .2rem; }
.nats td { padding: 0 .2rem; border: 0; }
.nats td:last-child { text-align: right; font-variant-numeric: tabular-nums; }"""


def _page(parts: Sequence[str]) -> str:
    style = f"{COLOURS}\n.answers {{ {_STYLE}\n{PICTURE_STYLE} }}"
    return f'<style>{style}</style><div class="answers">{"".join(parts)}</div>'
