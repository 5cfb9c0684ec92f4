"""Which methods are learned together, and in which order the groups run."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import _mixture_added as added
from benchmarks import _mixture_methods as methods
from benchmarks import _mixture_unlike as wide
from benchmarks._mixture_methods import Learned
from benchmarks._mixture_rows import Bed
from benchmarks._mixture_tasks import Task

# A stage runs for all seeds before the next one: first what the others are compared with, last what
# was added to the protocol later.
STAGES = (
    ("zero_shot", "adam", "sgd"),
    ("map_sgd", "functional", "particles", "sghmc", "low_rank", "full", "lengths"),
    ("unlike", "shared", "class_prior", "hierarchical"),
    ("of_image", "of_image_more"),
)
GROUPS: dict[str, Callable[[Bed, Task, int], dict[str, Learned]]] = {
    "zero_shot": methods.zero_shot, "adam": methods.by_adam, "sgd": methods.by_sgd,
    "map_sgd": methods.map_by_sgd, "functional": methods.functional,
    "particles": methods.particles, "sghmc": methods.snapshots, "low_rank": methods.low_rank,
    "full": methods.full, "lengths": methods.other_lengths,
    "unlike": wide.unlike, "shared": wide.shared, "class_prior": added.class_prior,
    "hierarchical": added.hierarchical, "of_image": added.of_image,
    "of_image_more": added.of_image_more,
}  # fmt: skip
