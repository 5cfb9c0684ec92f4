"""What a folder's path says of the run in it: the layouts of CoOp, CoCoOp, MaPLe, BPL and ours."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..common.characters import printable
from .logs import TEST_BEGINS, TRAINING_ENDS
from .record import ALL_IMAGES

_NAME = "[^/]+"
_SEED = "seed(?P<seed>[0-9]{1,10})"
_METHOD = rf"(?P<trainer>{_NAME})/(?P<config>{_NAME})"
_SHOTS = "(?P<shots>-1|[0-9]{1,6})"
_TRAINED = rf"{_METHOD}_{_SHOTS}shots"
_HALVES = (
    rf"(?P<dataset>{_NAME})/(?:(?P<variant>mcmc_{_NAME})/)?"
    rf"shots_{_SHOTS}(?P<shape>[^/0-9]{_NAME})?/{_METHOD}/{_SEED}"
)
# The end of a run's path, and the line behind which its result stands.
LAYOUTS = {
    kind: (re.compile(f"(?:^|/){pattern}$"), signals)
    for kind, pattern, signals in (
        ("trained_half", rf"base2new/train_(?P<part>base|new|all)/{_HALVES}", TRAINING_ENDS),
        ("tested_half", rf"base2new/test_(?P<part>base|new|all)/{_HALVES}", TEST_BEGINS),
        (
            "evaluation",
            rf"evaluation/{_TRAINED}/(?:(?P<variant>nctx{_NAME})/)?(?P<dataset>{_NAME})/{_SEED}",
            TEST_BEGINS,
        ),
        (
            "trained",
            rf"(?P<dataset>{_NAME})/(?:(?P<variant>mcmc_{_NAME})/)?{_TRAINED}/"
            rf"(?:(?P<shape>nctx{_NAME})/)?{_SEED}",
            TRAINING_ENDS,
        ),
        (
            "zeroshot",
            rf"(?P<trainer>ZeroshotCLIP2?)/(?P<config>{_NAME})/(?P<dataset>{_NAME})"
            r"(?:/(?P<part>base|new))?",
            TEST_BEGINS,
        ),
    )
}


@dataclass(frozen=True, order=True)
class Method:
    """What shares a row of a table: everything but data set and seed."""

    trainer: str
    config: str
    variant: str = ""  # extra levels of the path: samples, context length ...
    shots: int = 0  # 0: not trained, or not told apart by it; -1: all images

    @property
    def is_zeroshot(self) -> bool:
        """Whether nothing was trained, so that there is one run and no seed."""
        return self.trainer.startswith("Zeroshot")


@dataclass(frozen=True)
class Place:
    """What a path says; `signals` are the lines behind which the log has the result."""

    method: Method
    source: str  # data set trained on, "" for zero-shot
    dataset: str
    part: str  # classes tested: all, base, new
    seed: int | None
    signals: tuple[str, ...]


def place_of(path: str) -> Place | None:
    """What `path` (with /) says of the run in this folder; None if it is of no layout."""
    found = ((kind, p.search(path), signals) for kind, (p, signals) in LAYOUTS.items())
    kind, match, signals = next((x for x in found if x[1]), ("", None, ()))
    if match is None:
        return None
    words = {key: printable(value) for key, value in match.groupdict().items() if value}
    dataset = words["dataset"]
    shots = int(words["shots"]) or ALL_IMAGES if "shots" in words else 0
    source = {"evaluation": "imagenet", "zeroshot": ""}.get(kind, dataset)
    config = _coop_family(words["trainer"], words["config"], source, shots)
    extra = (words.get("variant"), words.get("shape", "").strip("_"))
    method = Method(words["trainer"], config, " ".join(filter(None, extra)), shots)
    seed = int(words["seed"]) if "seed" in words else None
    return Place(method, source, dataset, words.get("part", "all"), seed, signals)


def _coop_family(trainer: str, config: str, source: str, shots: int) -> str:
    """CoOp's config without the length that CoOp trains this data set and number of shots for.

    CoOp names one method vit_b16_ctxv1 on most data sets, vit_b16_ep50_ctxv1 on ImageNet, and
    rn50_ep50, rn50_ep100 or rn50 by the number of shots.
    """
    match = re.search("_ep([0-9]+)", config)
    length = 50 if source == "imagenet" or shots == 1 else 100 if shots in (2, 4) else 200
    if trainer != "CoOp" or not match or int(match[1]) != length:
        return config
    return config.replace(match[0], "")
