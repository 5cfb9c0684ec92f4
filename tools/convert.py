"""Prompt checkpoints from this project's layout to CoOp's and back.

python tools/convert.py IN OUT --to coop|ours

CoOp's files (also CoCoOp's and those of the authors' VPT) need no conversion to be loaded here.
Written for them are the learned values only: their loaders make the class-name embeddings anew.
They look for OUT as FOLDER/prompt_learner/model.pth.tar-EPOCH.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from varprompt import files  # noqa: E402
from varprompt.errors import CheckpointError, VarPromptError  # noqa: E402
from varprompt.learner_state import CLASS_BUFFERS, name_here, name_there  # noqa: E402


def convert(state: dict[str, Any], to: str) -> dict[str, Any]:
    """The checkpoint `state` in the layout "coop" or "ours", without optimizer and schedule.

    Raises:
        CheckpointError: CoOp's layout has no place for what was learned.
    """
    tensors = {k.removeprefix("module."): v for k, v in state["state_dict"].items()}
    kept = ("epoch", "val_result", "trainer", "classnames", "weights_sha256")
    result = {"val_result": None, **{k: state[k] for k in kept if k in state}}
    if to == "ours":  # class-specific contexts keep what tells their classes
        dropped = () if tensors["ctx"].dim() == 3 else CLASS_BUFFERS
        return {
            **result,
            "state_dict": {name_here(k): v for k, v in tensors.items() if k not in dropped},
        }
    tensors = {name_there(k): v for k, v in tensors.items() if k not in CLASS_BUFFERS}
    shapes = {tensors[name].squeeze(0).shape for name in _OUTPUTS if name in tensors}
    if frozenset(tensors) not in _LAYOUTS or shapes - {tensors["ctx"].shape[-1:]}:
        raise CheckpointError(
            f"no trainer of CoOp's or of the authors has the values {sorted(state['state_dict'])}: "
            "POSTERIOR must be gaussian and RESIDUAL shared"
        )
    return {**result, "state_dict": tensors}


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
    """Convert one file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", metavar="IN", help="a checkpoint of either layout")
    parser.add_argument("target", metavar="OUT", help="the file to write")
    parser.add_argument("--to", choices=("coop", "ours"), required=True)
    args = parser.parse_args(argv)
    try:
        if Path(args.source).is_dir():
            raise CheckpointError(f"{args.source} is a folder; give a file, model.pth.tar-EPOCH")
        state = files.read(args.source)
        if "ctx" not in state.get("state_dict", {}):
            raise CheckpointError(f"{args.source} is no prompt checkpoint: it holds no context")
        files.write(convert(state, args.to), args.target)
    except (VarPromptError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
