"""Loading what was learned, from this project's checkpoints or from the authors' and CoOp's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .errors import CheckpointError
from .prompt import PromptLearner

# start of a name in CoOp's, CoCoOp's and the authors' files -> start of the name here
_OTHER_NAMES = {
    "mean_posterior": "posterior.mu",
    "std_posterior": "posterior.logvar",  # the authors' name; its content is a log-variance
    "meta_net.weight_mean.module.": "posterior.mean.",
    "meta_net.weight_log_variance.module.": "posterior.logvar.",
    "meta_net.": "posterior.",
}
_CLASS_BUFFERS = ("token_prefix", "token_suffix")  # embeddings of class names, made anew here


def load_learner(
    learner: PromptLearner, checkpoint: Mapping[str, Any], source: str, classnames: Sequence[str]
) -> None:
    """Put the learned values of `checkpoint` into `learner`: all of them, or none.

    Args:
        learner: the prompt learner to fill.
        checkpoint: dict with ``state_dict`` (Dassl's form), or a state dict itself.
        source: the file's name, for messages.
        classnames: names of the classes that the learner is for.

    Raises:
        CheckpointError: names or shapes differ, or class-specific contexts of other classes.
    """
    state = checkpoint.get("state_dict", checkpoint)
    found = {
        _name_here(k.removeprefix("module.")): v
        for k, v in state.items()
        if isinstance(v, Tensor) and k.rpartition(".")[2] not in _CLASS_BUFFERS
    }
    wanted = learner.state_dict()
    problems = [f"lacks {k} {tuple(wanted[k].shape)}" for k in wanted if k not in found]
    problems += [f"has {k} {tuple(found[k].shape)} in excess" for k in found if k not in wanted]
    problems += [
        f"{k} is {tuple(found[k].shape)} there and {tuple(wanted[k].shape)} here"
        for k in wanted
        if k in found and found[k].shape != wanted[k].shape
    ]
    made_by = checkpoint.get("trainer", "another trainer or configuration")
    if problems:
        raise CheckpointError(
            f"checkpoint {source} (written by {made_by}) does not fit this trainer and "
            f"configuration, nothing was loaded: it {'; '.join(problems[:8])}"
        )
    theirs = checkpoint.get("classnames")
    if learner.ctx.dim() == 3 and theirs is not None and list(theirs) != list(classnames):
        raise CheckpointError(
            f"checkpoint {source} has one context per class, of the classes {list(theirs)[:5]} "
            f"..., and cannot be used for {list(classnames)[:5]} ...: train with "
            "TRAINER.COOP.CSC False to test on other classes"
        )
    learner.load_state_dict({k: found[k].reshape(wanted[k].shape) for k in wanted})


def _name_here(name: str) -> str:
    for start, here in _OTHER_NAMES.items():
        if name.startswith(start):
            return here + name.removeprefix(start)
    return name
