"""The tables and the figure of benchmarks/uncertainty.py."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks._embedded_runs import FEW, METHODS
from benchmarks._uncertainty_stats import (
    SEEDS_ENOUGH,
    Difference,
    Row,
    Table,
    Variant,
    holm,
    rank_agreement,
)
from varprompt.common.console import out, say
from varprompt.common.files import write_atomic

CALIBRATED = ("none", "temperature")
MAIN = (
    ("base", "base/accuracy", 1), ("new", "new/accuracy", 1), ("H", "H", 1),
    ("NLL base", "base/nll", 3), ("NLL new", "new/nll", 3),
    ("Brier base", "base/brier", 3), ("Brier new", "new/brier", 3),
    ("ECE base", "base/ece", 1), ("ECE new", "new/ece", 1), ("T", "base/temperature", 2),
)  # fmt: skip
CALIBRATION = (
    ("ECE if calibrated", "base/ece_if_calibrated_mean", 1), ("ECE 10", "base/ece_10", 1),
    ("ECE 20", "base/ece_20", 1), ("ACE", "base/ace", 1), ("MCE", "base/mce", 1),
    ("MCE x share, 10", "base/mce_weighted_10", 1), ("classwise", "base/classwise_ece", 2),
    ("PIECE", "base/piece", 1), ("ACE new", "new/ace", 1), ("MCE new", "new/mce", 1),
    ("classwise new", "new/classwise_ece", 2), ("PIECE new", "new/piece", 1),
)  # fmt: skip
REJECTION = (
    ("AURC base", "base/aurc", 1), ("AURC new", "new/aurc", 1),
    ("E-AURC base", "base/e_aurc", 1), ("E-AURC new", "new/e_aurc", 1),
    ("acc. at 80 % base", "base/accuracy_80", 1), ("acc. at 80 % new", "new/accuracy_80", 1),
    ("AUROC base", "base/auroc", 1), ("AUROC new", "new/auroc", 1),
    ("FPR95 base", "base/fpr95", 1), ("FPR95 new", "new/fpr95", 1),
)  # fmt: skip
SETS_OF_CLASSES = tuple(
    (f"{kind.upper()} {what}", f"base/{kind}_{what}", 1 if what == "coverage" else 2)
    for kind in ("lac", "aps", "raps")
    for what in ("coverage", "size")
)
OOD = tuple(
    (f"{name.replace('_', ' ')} {what}", f"ood/ood_{name}_{what.lower()}", 1)
    for what in ("AUROC", "FPR95")
    for name in ("max_probability", "max_logit", "energy", "entropy", "mutual_information")
)
FIGURES = (
    ("H", "H", 1), ("NLL base", "base/nll", 3), ("NLL new", "new/nll", 3),
    ("ECE base", "base/ece", 1), ("ECE new", "new/ece", 1), ("AURC base", "base/aurc", 1),
    ("AURC new", "new/aurc", 1), ("OOD AUROC", "ood/ood_entropy_auroc", 1),
)  # fmt: skip
PLAIN_PAIRS: tuple[tuple[str, str], ...] = (
    ("coop_50", "zero_shot"), ("coop_25", "coop_50"), ("coop_200", "coop_50"),
    ("cocoop", "coop_50"), ("vpt_official", "coop_50"), ("map", "coop_50"),
    ("vpt_scaled", "coop_50"), ("vpt_scaled", "map"), ("vpt_cocoop", "cocoop"),
    ("mixture", "map"), ("mixture_words", "mixture"),
)  # fmt: skip
PAIRS: tuple[tuple[Variant, Variant], ...] = (
    *(((one, "none"), (other, "none")) for one, other in PLAIN_PAIRS),
    *(((name, "temperature"), (name, "none")) for name in METHODS),
    (("vpt_scaled", "none"), ("map", "temperature")),
    (("vpt_scaled", "temperature"), ("map", "temperature")),
    (("vpt_scaled", "temperature"), ("coop_50", "temperature")),
    (("vpt_cocoop", "temperature"), ("cocoop", "temperature")),
    (("mixture", "temperature"), ("map", "temperature")),
    (("mixture_words", "temperature"), ("mixture", "temperature")),
)


def report(rows: Sequence[Row], picture: Path) -> None:
    """Print the tables as Markdown; draw `picture`, and write all means beside it as CSV."""
    table = Table(rows)
    if not table.seeds:
        say("there is no set yet with all methods but the slow ones")
        return
    out(f"Seeds {', '.join(map(str, table.seeds))}; sets {', '.join(table.sets)}; {table.left_out} "
        "runs beside these are left out.")  # fmt: skip
    for title, columns in (
        ("Accuracy, proper scores, calibration", MAIN), ("Calibration errors", CALIBRATION),
        ("Rejection", REJECTION), ("Prediction sets of base classes, alpha 0.1", SETS_OF_CLASSES),
        ("New against base under the base classifier", OOD),
    ):  # fmt: skip
        out(f"\n### {title}\n\n{means(table, columns)}")
    out(f"\n### By set\n\n{by_set(table)}")
    out(f"\n### Paired differences\n\n{differences(table)}")
    out(f"\n### On {FEW} images\n\n{few_images(table)}")
    write_atomic(picture.with_suffix(".csv"), lambda file: file.write(all_means(table).encode()))
    from benchmarks._uncertainty_figure import draw

    draw(table, picture)


def title(variant: Variant) -> str:
    """What a variant is called."""
    return METHODS[variant[0]].title + (" + T" if variant[1] == "temperature" else "")


def variants(table: Table) -> list[Variant]:
    """All methods, plain and with temperature."""
    return [(method, calibrator) for method in table.methods for calibrator in CALIBRATED]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int, sign: str = "") -> str:
    """With so many digits; a dash for none."""
    return "-" if value is None else f"{value:{sign}.{digits}f}"


def means(table: Table, columns: Sequence[tuple[str, str, int]]) -> str:
    """Over sets and seeds, a row for each variant."""
    rows = [
        [title(variant), *(number(table.mean(variant, key), digits) for _, key, digits in columns)]
        for variant in variants(table)
    ]
    return markdown(["method", *(name for name, _, _ in columns)], rows)


def by_set(table: Table) -> str:
    """H and ECE of new classes, plain, mean over seeds."""
    rows = []
    for method in table.methods:
        cells = []
        for name in table.sets:
            pair = (
                [
                    v
                    for (found, _), v in table.values((method, "none"), key).items()
                    if found == name
                ]
                for key in ("H", "new/ece")
            )
            cells.append(" / ".join(f"{sum(values) / len(values):.1f}" for values in pair))
        rows.append([METHODS[method].title, *cells])
    return markdown(["H / ECE new", *table.sets], rows)


def differences(table: Table) -> str:
    """Of `PAIRS` in `FIGURES`; one family for Holm."""
    pairs = [pair for pair in PAIRS if all(method in table.methods for method, _ in pair)]
    found = {
        (pair, key): difference
        for pair in pairs
        for _, key, _ in FIGURES
        if (difference := table.difference(*pair, key))
    }
    adjusted = holm([difference.p for difference in found.values()])
    found = {
        key: replace(difference, holm=p)
        for (key, difference), p in zip(found.items(), adjusted, strict=True)
    }
    rows = [
        [f"{title(one)} minus {title(other)}",
         *(_difference(found.get(((one, other), key)), digits) for _, key, digits in FIGURES)]
        for one, other in pairs
    ]  # fmt: skip
    text = markdown(["difference", *(name for name, _, _ in FIGURES)], rows)
    unit = "seeds" if len(table.seeds) >= SEEDS_ENOUGH else "sets"
    return f"{len(found)} tests in the family, over {unit}.\n\n{text}"


def _difference(found: Difference | None, digits: int) -> str:
    """Mean, half the interval over seeds, in brackets over sets; bold if Holm's p is below 0.05."""
    if found is None:
        return "-"
    mean = number(found.mean, digits, "+")
    if found.over_seeds is not None:
        mean += f" ±{number(found.over_seeds, digits)}"
    mean += f" (±{number(found.over_sets, digits)})"
    return f"**{mean}**" if found.holm is not None and found.holm < 0.05 else mean


def few_images(table: Table) -> str:
    """How a figure of a few images agrees with that of all, within each set and seed."""
    rows = []
    for name in ("accuracy", "nll", "ece", "mce", "aurc", "auroc"):
        few, whole = (
            {v: table.values((v, "none"), f"{part}/{name}") for v in table.methods}
            for part in ("few", "base")
        )
        cells = [
            c for c in whole["map"] if all(c in few[v] and c in whole[v] for v in table.methods)
        ]
        if not cells:
            continue
        pairs = [tuple([part[v][c] for v in table.methods] for part in (few, whole)) for c in cells]
        taus = [rank_agreement(*pair) for pair in pairs]
        off = [abs(a - b) for pair in pairs for a, b in zip(*pair, strict=True)]
        bias = [a - b for pair in pairs for a, b in zip(*pair, strict=True)]
        spread = [max(all_images) - min(all_images) for _, all_images in pairs]
        digits = 3 if name == "nll" else 1
        rows.append([
            name, *(number(sum(x) / len(x), digits) for x in (bias, off, spread)),
            number(sum(taus) / len(taus), 2),
        ])  # fmt: skip
    head = ["figure", "bias", "mean distance", "range of the methods", "Kendall's tau"]
    return markdown(head, rows)


def all_means(table: Table) -> str:
    """Every figure of every variant as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["figure", *(title(variant) for variant in variants(table))])
    for key in ["H", *table.keys()]:
        values = [table.mean(variant, key) for variant in variants(table)]
        if any(value is not None for value in values):
            writer.writerow([key, *("" if v is None else f"{v:.5g}" for v in values)])
    return text.getvalue()
