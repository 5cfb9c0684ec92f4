"""Loading what was learned, from this project's checkpoints or from the authors' and CoOp's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import CheckpointError, brief
from .layouts import split_state
from .prompt import PromptLearner
from .towers.tokens import ClassTokens


def load_learner(
    learner: PromptLearner,
    checkpoint: Mapping[str, Any],
    source: str,
    classnames: Sequence[str],
    tokens: ClassTokens,
) -> None:
    """Put the learned values of `checkpoint` into `learner`: all of them, or none.

    Args:
        learner: the prompt learner to fill.
        checkpoint: dict with ``state_dict`` (Dassl's form), or a state dict itself.
        source: the file's name, for messages.
        classnames: names of the classes that the learner is for.
        tokens: the same as token embeddings.

    Raises:
        CheckpointError: names or shapes differ, class-specific contexts of other classes, or
            contexts learned in front of another CLIP.
    """
    state = checkpoint.get("state_dict", checkpoint)
    if not isinstance(state, Mapping):
        raise CheckpointError(f"checkpoint {source} holds no tensors by name but {brief(state)}")
    state = {str(k).removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)}
    found, buffers = split_state(state)
    wanted = learner.state_dict()
    if learner.ctx.dim() == found.get("ctx", learner.ctx).dim() == 3:
        # before shapes are compared: of another number of classes they differ, too
        _check_classes(checkpoint, buffers.get("token_suffix"), source, classnames, tokens)
    problems = _misfits(found, wanted)
    if problems:
        made_by = checkpoint.get("trainer", "another trainer or configuration")
        raise CheckpointError(
            f"checkpoint {source} (written by {made_by}) does not fit this trainer and "
            f"configuration, nothing was loaded: it {'; '.join(problems[:8])}"
        )
    _check_clip(buffers.get("token_prefix"), source, tokens)
    learner.load_state_dict(found)


def _misfits(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    problems = [f"lacks {k} {tuple(wanted[k].shape)}" for k in wanted if k not in found]
    problems += [f"has {k} {tuple(found[k].shape)} in excess" for k in found if k not in wanted]
    for name, values in ((k, found[k]) for k in wanted if k in found):
        if values.shape != wanted[name].shape:
            needed = tuple(wanted[name].shape)
            problems.append(f"has {name} {tuple(values.shape)} where {needed} is needed")
        elif not (values.is_floating_point() and _is_dense(values) and values.isfinite().all()):
            problems.append(f"has no finite numbers in {name}, or no numbers at all")
    return problems


def _is_dense(values: Tensor) -> bool:
    return values.layout == torch.strided and not (values.is_meta or values.is_quantized)


def _check_clip(prefix: Tensor | None, source: str, tokens: ClassTokens) -> None:
    """The start token is the CLIP's, so it tells which CLIP a file is for."""
    if prefix is not None and not _same(prefix[:1].flatten(), tokens.start):
        raise CheckpointError(
            f"checkpoint {source} was learned in front of another CLIP, its start token has "
            "another embedding: give that one (MODEL.BACKBONE)"
        )


def _check_classes(
    checkpoint: Mapping[str, Any],
    suffix: Tensor | None,
    source: str,
    classnames: Sequence[str],
    tokens: ClassTokens,
) -> None:
    """Class-specific contexts are for the classes they were learned for, in their order."""
    theirs = checkpoint.get("classnames")
    if theirs is not None:
        fits, theirs = theirs == list(classnames), f"the classes {brief(theirs)}"
    else:  # CoOp's files have their embeddings
        fits, theirs = suffix is not None and _same_names(suffix, tokens), "other classes"
    if not fits:
        raise CheckpointError(
            f"checkpoint {source} has one context per class, of {theirs}, and cannot be used for "
            f"{list(classnames)[:5]} ...: train with TRAINER.COOP.CSC False to test on other "
            "classes"
        )


def _same_names(suffix: Tensor, tokens: ClassTokens) -> bool:
    """Whether embeddings `(C, n, D)` begin with the tokens of the class names."""
    if suffix.dim() != 3 or len(suffix) != tokens.n_classes:
        return False
    fixed, slots, position = (
        t.flatten(0, 1) for t in (tokens.fixed, tokens.slots, tokens.position)
    )
    for theirs, end in zip(suffix, tokens.ends[tokens.inverse].tolist(), strict=True):
        own = slice(end - int(position[end]), end + 1)
        ours = fixed[own][slots[own] < 0]
        if len(theirs) < len(ours) or not _same(theirs[: len(ours)], ours):
            return False
    return True


def _same(theirs: Tensor, ours: Tensor) -> bool:
    """Whether embeddings are equal up to rounding to half precision."""
    theirs, ours = theirs.float(), ours.float().cpu()
    return theirs.shape == ours.shape and bool((theirs - ours).norm() <= 0.01 * ours.norm())
