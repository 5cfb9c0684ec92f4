"""Names and shapes here of what other prompt learners' files hold.

CoOp, CoCoOp, KgCoOp and the authors of VPT save their learner; MaPLe, PromptSRC and IVLP save the
whole model, with the prompts of deeper layers among the towers' layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# start of a name in CoOp's, CoCoOp's and the authors' files -> start of the name here
_OTHER_NAMES = {
    "mean_posterior": "posterior.mu",
    "std_posterior": "posterior.logvar",  # the authors' name; its content is a log-variance
    "meta_net.weight_mean.module.": "posterior.mean.",
    "meta_net.weight_log_variance.module.": "posterior.logvar.",
    "meta_net.": "posterior.",
}
# embeddings of start token and class names: made anew here, but they tell what a file is for
CLASS_BUFFERS = ("token_prefix", "token_suffix")
# what KgCoOp's learner has and neither trains nor reads
_IDLE = {"bias_vectors", "meta_net.linear1.weight", "meta_net.linear1.bias"}
_LEARNER = "prompt_learner."  # in files of whole models ...
_TOWERS = ("image_encoder.", "text_encoder.", "logit_scale", f"{_LEARNER}ZS_image_encoder.")
_LAYER = re.compile(r"(image|text)_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow")
_MAPLE = re.compile(r"compound_prompt(s_text|_projections)\.(\d+)(\..*)?")


def split_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What was learned, by its names here, and the `CLASS_BUFFERS`; the towers are left out.

    Args:
        state: tensors by name, of this project or of those above.
    """
    if any(name.startswith(_LEARNER) for name in state):
        found = _of_whole_model(state)
    else:
        idle = _IDLE if "bias_vectors" in state else set()
        found = {name: value for name, value in state.items() if name not in idle}
    buffers = {name: found.pop(name) for name in CLASS_BUFFERS if name in found}
    return {name_here(name): value for name, value in found.items()}, buffers


def _of_whole_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The learner's part of MaPLe's, PromptSRC's or IVLP's model, by its names here."""
    found: dict[str, Tensor] = {}
    layers: dict[str, dict[int, Tensor]] = {"deep.text": {}, "deep.visual": {}}
    for name, value in state.items():
        here, layer = _place(name)
        if layer >= 0:
            layers[here][layer] = value
        elif here:
            found[here] = value
    for name, values in layers.items():
        if len({value.shape for value in values.values()}) == 1:
            found[name] = torch.stack([values[i] for i in sorted(values)])
        else:  # if there are any, no learner has them so
            found |= {f"{name}.{i}": value for i, value in values.items()}
    return found


def _place(name: str) -> tuple[str, int]:
    """Name here of a tensor of a whole model, "" of the towers, and its layer there or -1."""
    own = name.removeprefix(_LEARNER)
    if match := _LAYER.fullmatch(name):
        return ("deep.text" if match[1] == "text" else "deep.visual"), int(match[2])
    if name == "image_encoder.VPT":
        return "deep.visual", 0
    if match := _MAPLE.fullmatch(own):
        layer, part = int(match[2]), match[3] or ""
        if match[1] == "s_text":
            return "deep.text", layer
        return f"deep.couplings.{layer + 1}{part}", -1
    if own.startswith("proj."):
        return own.replace("proj.", "deep.couplings.0."), -1
    return ("" if name.startswith(_TOWERS) else own), -1


def name_here(name: str) -> str:
    """The name here of a tensor in CoOp's, CoCoOp's or the authors' files, or in ours."""
    for start, here in _OTHER_NAMES.items():
        if name.startswith(start):
            return here + name.removeprefix(start)
    return name


def name_there(name: str) -> str:
    """The name in CoOp's, CoCoOp's or the authors' files of a tensor that is called `name` here."""
    for start, here in sorted(_OTHER_NAMES.items(), key=lambda pair: -len(pair[1])):
        if name.startswith(here):
            return start + name.removeprefix(here)
    return name
