"""What a results.json says beyond its averages: figures by class, and points of two curves.

Files of version 0.1.0 have neither; what is not as this project writes it is taken for absent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..common.characters import printable

_MOST = 10**9  # images
_LONGEST = 200  # characters of a class's name


@dataclass(frozen=True)
class ClassFigures:
    """One class: its images, and how often each class (by label) was predicted for them."""

    name: str
    predicted: Counter[int]

    @property
    def total(self) -> int:
        """Number of images."""
        return sum(self.predicted.values())

    def accuracy(self, label: int) -> float:
        """In percent; the class's own label is `label`."""
        return 100 * self.predicted[label] / self.total


@dataclass(frozen=True)
class Bin:
    """A point of a reliability diagram; limits, confidence and accuracy in percent."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Detail:
    """Figures by class, by label, reliability, and risk; empty where nothing is recorded.

    `risk` has points (coverage, error of what is kept), in percent. `n_tests` is the number of
    tests of the same images that were added up in it.
    """

    classes: Mapping[int, ClassFigures] = field(default_factory=dict)
    reliability: tuple[Bin, ...] = ()
    risk: tuple[tuple[float, float], ...] = ()
    n_tests: int = 1

    def confusions(self) -> list[tuple[int, int, int]]:
        """(true, predicted, number of images) of what was wrong, the most frequent first."""
        wrong = [
            (label, other, n)
            for label, figures in self.classes.items()
            for other, n in figures.predicted.items()
            if other != label
        ]
        return sorted(wrong, key=lambda entry: (-entry[2], *entry[:2]))


def detail_of(content: Mapping[str, Any]) -> Detail:
    """What the content of a results.json says; nothing of a part that cannot be right."""
    return Detail(
        _classes(content.get("per_class")),
        _reliability(content.get("reliability")),
        _risk(content.get("risk_coverage")),
    )


def pooled(details: Iterable[Detail]) -> Detail:
    """Several tests of the same images in one.

    Counts are added, points weighted by theirs, errors averaged.
    """
    names: dict[int, str] = {}
    predicted: dict[int, Counter[int]] = {}
    bins: dict[tuple[float, float], list[Bin]] = {}
    risks: dict[float, list[float]] = {}
    n_tests = 0
    for detail in details:
        n_tests += 1
        for coverage, risk in detail.risk:
            risks.setdefault(coverage, []).append(risk)
        for label, figures in detail.classes.items():
            names.setdefault(label, figures.name)
            predicted.setdefault(label, Counter()).update(figures.predicted)
        for point in detail.reliability:
            bins.setdefault((point.low, point.high), []).append(point)
    classes = {label: ClassFigures(names[label], predicted[label]) for label in sorted(names)}
    curve = tuple((at, sum(found) / len(found)) for at, found in sorted(risks.items()))
    return Detail(classes, tuple(_merged(bins[limits]) for limits in sorted(bins)), curve, n_tests)


def _merged(points: list[Bin]) -> Bin:
    count = sum(point.count for point in points)
    confidence = sum(point.count * point.confidence for point in points) / count
    accuracy = sum(point.count * point.accuracy for point in points) / count
    return Bin(points[0].low, points[0].high, count, confidence, accuracy)


def _classes(content: Any) -> dict[int, ClassFigures]:
    found = {}
    for label, row in content.items() if isinstance(content, dict) else ():
        counts = row.get("predicted") if isinstance(row, dict) else None
        if not isinstance(counts, dict) or not counts or not isinstance(row.get("name"), str):
            return {}
        if not (_is_label(label) and all(map(_is_label, counts))):
            return {}
        if not all(_is_count(n) for n in counts.values()):
            return {}
        predicted = Counter({int(other): n for other, n in counts.items()})
        found[int(label)] = ClassFigures(printable(row["name"][:_LONGEST]), predicted)
    return found


def _is_label(key: Any) -> bool:
    return isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 10


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MOST


def _risk(content: Any) -> tuple[tuple[float, float], ...]:
    columns = (
        [content.get(key) for key in ("coverage", "risk")] if isinstance(content, dict) else []
    )
    if not columns or not all(isinstance(c, list) and len(c) < 1000 for c in columns):
        return ()
    points = list(zip(*columns, strict=False))
    if not all(type(v) in (int, float) and 0 <= v <= 100 for point in points for v in point):
        return ()
    return tuple((float(coverage), float(risk)) for coverage, risk in points)


def _reliability(content: Any) -> tuple[Bin, ...]:
    found = []
    for row in content if isinstance(content, list) else ():
        if not isinstance(row, dict) or not _is_count(row.get("count")):
            return ()
        values: list[Any] = [row.get(key) for key in ("low", "high", "confidence", "accuracy")]
        if not all(type(v) in (int, float) and 0 <= v <= 100 for v in values):  # also NaN
            return ()
        low, high, confidence, accuracy = map(float, values)
        found.append(Bin(low, high, row["count"], confidence, accuracy))
    return tuple(found)
