"""Prompt checkpoints from this project's layout to CoOp's and back.

    varprompt convert IN OUT --to coop|ours

CoOp's files (also CoCoOp's and those of the authors' VPT) need no conversion to be loaded here.
Written for them are the learned values only: their loaders make the class-name embeddings anew.
They look for OUT as FOLDER/prompt_learner/model.pth.tar-EPOCH.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common import files
from ..errors import CheckpointError, brief
from ..layouts import CLASS_BUFFERS, name_here, name_there
from ..settings.flags import Parser
from ..settings.option import leaves
from ..settings.plugins import add_import_flag, load_plugins
from ..settings.yaml_file import parse_mapping


def convert(state: Mapping[str, Any], to: str, source: str = "the checkpoint") -> dict[str, Any]:
    """The checkpoint `state` in the layout "coop" or "ours", without optimizer and schedule.

    Args:
        state: dict with ``state_dict``, and perhaps epoch, val_result, trainer, classnames and
            weights_sha256.
        to: "coop" or "ours".
        source: the file's name, for messages.

    Raises:
        CheckpointError: `state` is no prompt checkpoint, or CoOp's layout has no place for what was
            learned.
        ConfigError: its configuration is none.
    """
    tensors = _tensors(state.get("state_dict"), source)
    result = {"val_result": None, **_said(state, source)}
    if to == "ours":  # class-specific contexts keep what tells their classes
        dropped = () if tensors["ctx"].dim() == 3 else CLASS_BUFFERS
        renamed = {name_here(k): v for k, v in tensors.items() if k not in dropped}
        return {**result, "state_dict": renamed}
    if moved := _class_words(state.get("config"), source):
        raise CheckpointError(
            f"{source} was learned with {moved}: prompts of CoOp's and of the authors' trainers do "
            "not begin at the words of their class"
        )
    tensors = {name_there(k): v for k, v in tensors.items() if k not in CLASS_BUFFERS}
    shapes = {tensors[name].squeeze(0).shape for name in _OUTPUTS if name in tensors}
    if frozenset(tensors) not in _LAYOUTS or shapes - {tensors["ctx"].shape[-1:]}:
        raise CheckpointError(
            f"no trainer of CoOp's or of the authors has the values {brief(sorted(tensors))} of "
            f"{source}: POSTERIOR must be gaussian and RESIDUAL shared"
        )
    return {**result, "state_dict": tensors}


def _class_words(config: Any, source: str) -> str:
    """The options CLASS_WORDS that are not 0 in the configuration of a run, as text."""
    if not isinstance(config, str):
        return ""
    found = leaves(parse_mapping(config, f"the configuration in {source}"))
    return ", ".join(f"{k} {value}" for k, value in found if value and k.endswith(".CLASS_WORDS"))


def _tensors(found: Any, source: str) -> dict[str, Tensor]:
    """The learned values by name, without the prefix of DataParallel."""
    if not isinstance(found, Mapping) or "ctx" not in {_bare(key) for key in found}:
        raise CheckpointError(
            f"{source} is no prompt checkpoint: it holds no context (state_dict with ctx)"
        )
    problems = []
    for key, value in found.items():
        if not isinstance(key, str):
            problems.append(f"the key {brief(key)} is no name")
        elif not isinstance(value, Tensor):
            problems.append(f"{key} is {brief(value)}, no tensor")
        elif not _is_usable(value):
            problems.append(f"{key} holds no finite numbers, or no numbers at all")
    tensors = {_bare(key): value for key, value in found.items()}
    if not problems and tensors["ctx"].dim() not in (2, 3):
        shape = tuple(tensors["ctx"].shape)
        problems.append(
            f"ctx has the shape {shape}, not (tokens, width) or (classes, tokens, width)"
        )
    if problems:
        raise CheckpointError(f"{source} is no prompt checkpoint: {'; '.join(problems[:5])}")
    return tensors


def _bare(key: Any) -> Any:
    return key.removeprefix("module.") if isinstance(key, str) else key


def _is_usable(value: Tensor) -> bool:
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        return False
    stored = value.untyped_storage().nbytes()  # a view can claim more values than there are
    if value.numel() * value.element_size() > stored:
        return False
    return value.is_floating_point() and bool(value.isfinite().all())


def _said(state: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What `state` says of itself and a converted file keeps.

    Raises:
        CheckpointError: a value is of another type than it should be.
    """
    wrong = [
        f"its {key} is {brief(state[key])}"
        for key, fits in _KEPT.items()
        if state.get(key) is not None and not fits(state[key])
    ]
    if wrong:
        raise CheckpointError(f"{source} is no prompt checkpoint: {'; '.join(wrong)}")
    return {key: state[key] for key in _KEPT if key in state}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


_KEPT: dict[str, Callable[[Any], bool]] = {
    "epoch": lambda value: _is_number(value) and isinstance(value, int),
    "val_result": _is_number,
    "trainer": _is_text,
    "classnames": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "weights_sha256": _is_text,
}


def _layers(name: str, numbers: Sequence[int]) -> set[str]:
    return {f"{name}{n}.{kind}" for n in numbers for kind in ("weight", "bias")}


_NETS = ("meta_net.weight_mean.module.", "meta_net.weight_log_variance.module.")
_OUTPUTS = ("mean_posterior", "std_posterior", *(f"{net}4.bias" for net in _NETS))  # (D,), (1, D)
_LAYOUTS = {
    frozenset({"ctx"}),
    frozenset({"ctx", "mean_posterior", "std_posterior"}),
    frozenset({"ctx"} | _layers("meta_net.linear", (1, 2))),
    frozenset({"ctx"}.union(*(_layers(net, (0, 2, 4)) for net in _NETS))),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Convert one file; returns the exit code.

    Raises:
        CheckpointError: it cannot be converted.
        OSError: the result cannot be written.
    """
    parser = Parser(prog="varprompt convert", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", metavar="IN", help="a checkpoint of either layout")
    parser.add_argument("target", metavar="OUT", help="the file to write")
    parser.add_argument("--to", choices=("coop", "ours"), required=True)
    add_import_flag(parser)
    args = parser.parse_args(argv)
    load_plugins(args.plugins)
    if Path(args.source).is_dir():
        raise CheckpointError(f"{args.source} is a folder; give a file, model.pth.tar-EPOCH")
    if Path(args.target).is_dir():
        raise CheckpointError(f"{args.target} is a folder; give the file to write")
    files.write(convert(files.read(args.source), args.to, args.source), args.target)
    return 0
