"""Published accuracies (ViT-B/16, 16 shots, 3 seeds), in %; never measured by this project."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

ELEVEN = {
    "imagenet": "ImageNet",
    "caltech101": "Caltech101",
    "oxford_pets": "OxfordPets",
    "stanford_cars": "StanfordCars",
    "oxford_flowers": "Flowers102",
    "food101": "Food101",
    "fgvc_aircraft": "FGVCAircraft",
    "sun397": "SUN397",
    "dtd": "DTD",
    "eurosat": "EuroSAT",
    "ucf101": "UCF101",
}
VARIANTS = {
    "imagenetv2": "ImageNet-V2",
    "imagenet_sketch": "ImageNet-Sketch",
    "imagenet_a": "ImageNet-A",
    "imagenet_r": "ImageNet-R",
}
EMBEDDED = ("digits", "chalk", "stretch", "zoom", "tint", "squash", "shear", "coloured")
KNOWN = (*ELEVEN, *VARIANTS, *EMBEDDED)  # folder names that only these data sets may have
_DATA = Path(__file__).resolve().parents[1] / "data"


@dataclass(frozen=True)
class Published:
    """Figures of one method; `base2new` maps data set (or "average") to base, new and H."""

    base2new: dict[str, dict[str, float]]
    transfer: dict[str, float]


def folder_name(dataset: str) -> str:
    """A data set's name in CoOp's layout, from that of its class."""
    known = {name.replace("_", ""): name for name in KNOWN} | {"describabletextures": "dtd"}
    return known.get(dataset.lower(), dataset.lower())


def published() -> dict[str, Published]:
    """Method -> figures, in the order of the averages."""
    methods: dict[str, Published] = {}
    for row in _rows("averages"):
        average = {key: float(row[key]) for key in ("base", "new", "h")}
        methods[row["method"]] = Published({"average": average}, {})
    for row in _rows("base2new"):
        values = {key: float(row[key]) for key in ("base", "new") if row[key]}
        methods[row["method"]].base2new[row["dataset"]] = values
    for row in _rows("transfer"):
        methods[row["method"]].transfer[row["target"]] = float(row["accuracy"])
    return methods


def published_calibration() -> dict[str, dict[str, dict[tuple[str, str], float]]]:
    """Method -> data set (or "average") -> (figure, part) -> value in %.

    The figures are "accuracy" and "ece_10". A method is a prompt learner and what calibrates it.
    Averages are computed from the data sets: some printed ones are wrong.
    """
    methods: dict[str, dict[str, dict[tuple[str, str], float]]] = {}
    keys = {"Acc": "accuracy", "ECE": "ece_10"}
    for row in _rows("calibration"):
        place = (keys[row["metric"]], row["split"])
        sets = {name: float(row[name]) for name in ELEVEN if row[name]}
        average = {"average": float(row["avg_recomputed"])} if row["avg_recomputed"] else {}
        known = methods.setdefault(_calibrated(row["backbone"], row["method"]), {})
        for name, value in {**average, **sets}.items():
            known.setdefault(name, {})[place] = value
    return methods


def _calibrated(learner: str, method: str) -> str:
    """A name for a prompt learner and what calibrates it, as the other tables have them."""
    learner = {"Zero-Shot": "CLIP", "KGCoOp": "KgCoOp"}.get(learner, learner)
    if method.lower().replace("_", "-") in (learner.lower(), "zero-shot"):
        return learner
    shown = {"Temp._Scal.": "temperature", "Temp._Scaling": "temperature"}.get(method, method)
    return f"{learner} + {shown}"


def _rows(name: str) -> list[dict[str, str]]:
    with open(_DATA / f"published_{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
