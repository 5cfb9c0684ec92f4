"""Write a model as a file that needs neither its checkpoint nor this package.

    varprompt export out/run --onnx m.onnx               image tower and texts: images in,
                                                         probabilities and uncertainty out
    varprompt export out/run --matrix m.safetensors      one matrix for plain CLIP
    varprompt export out/run --torch m.pt2               for torch.export.load

Every file is compared with the model before it is there, on --check IMAGES or else on made ones,
and the largest difference is printed. MODEL is the folder of a run or of a saved classifier. The
prompts of VPT_CoCoOp and CoCoOp depend on the image: such models have no texts to write.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..common.characters import printable
from ..common.console import out
from ..common.files import unwritable
from ..errors import ConfigError
from ..predict.model_flags import add_model_flags, open_model
from ..settings.flags import Parser, given
from .check import check_images
from .graph import ImageClassifier, Texts, described, texts_of
from .matrix import class_matrix, what_is_lost, write_matrix
from .onnx import need_onnx, write_onnx
from .program import write_program


def parser() -> argparse.ArgumentParser:
    """The command line."""
    new = Parser(
        prog="varprompt export", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_model_flags(new)
    new.add_argument("--onnx", metavar="FILE", type=given, help="write ONNX (extra: export)")
    new.add_argument("--matrix", metavar="FILE", type=given, help="write one matrix, safetensors")
    new.add_argument("--torch", metavar="FILE", type=given, help="write a torch.export program")
    new.add_argument(
        "--check", metavar="IMAGE", nargs="+", default=[], type=given,
        help="files, folders or patterns to compare on (default: made images)",
    )  # fmt: skip
    return new


def main(argv: Sequence[str] | None = None) -> int:
    """Write what is asked for; 0 when all of it is there.

    Raises:
        VarPromptError: the model cannot be read or not be written so.
        OSError: a file cannot be written.
    """
    args = parser().parse_args(argv)
    targets = {"--onnx": args.onnx, "--matrix": args.matrix, "--torch": args.torch}
    _check_targets(targets)
    if args.onnx:
        need_onnx()
    args.device = "cpu"
    learned = open_model(args).learned_
    first = next(f"{flag} {file}" for flag, file in targets.items() if file)
    texts = texts_of(learned.model, first)
    if texts.redrawn:
        out("the model draws anew for every batch (TEST_SEED -1): written is one draw, of seed 0")
    images = check_images(args.check, learned.transform, learned.pixels.size)
    said = described(learned)
    graph = ImageClassifier(learned.clip.visual, texts, learned.temperature).eval()
    for flag, write in (("--onnx", write_onnx), ("--torch", write_program)):
        if targets[flag]:
            _report(targets[flag], write(graph, images, said, targets[flag]), len(images))
    if args.matrix:
        _matrix(graph, texts, learned.temperature, images, said, args.matrix)
    return 0


def _check_targets(targets: Mapping[str, str | None]) -> None:
    wanted = [file for file in targets.values() if file]
    problems = [] if wanted else [f"say what to write: {', '.join(targets)} FILE"]
    if len({Path(file).absolute() for file in wanted}) < len(wanted):
        problems.append("two kinds of files have one name: give each its own")
    problems += [f"{file} {why}" for file in wanted if (why := unwritable(file))]
    if problems:
        raise ConfigError(problems)


def _report(path: str, differences: Mapping[str, float], n_images: int) -> None:
    listed = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    out(f"{printable(path)} ({_size(path)}): differs from the model by at most {listed} "
        f"on {n_images} images")  # fmt: skip


@torch.no_grad()
def _matrix(
    graph: ImageClassifier, texts: Texts, temperature: float, images: Tensor,
    said: Mapping[str, object], path: str,
) -> None:  # fmt: skip
    matrix, scale = class_matrix(texts, temperature)
    loss = what_is_lost(graph, matrix, scale, graph.features(images))
    write_matrix(matrix, scale, loss, said, path)
    rows, width = matrix.shape
    out(
        f"{printable(path)} ({_size(path)}): {rows} x {width}, softmax(logit_scale {scale:.4g} * "
        f"features @ weight.T)\nwhat is lost, on {loss.n_images} images: the same class for "
        f"{100 * loss.agreement:.1f} %, probabilities differ by {loss.mean_difference:.2e} on "
        f"average and {loss.largest_difference:.2e} at most; the epistemic uncertainty, "
        f"{loss.epistemic:.2e} nats on average, is gone"
    )


def _size(path: str) -> str:
    return f"{Path(path).stat().st_size / 1e6:.2f} MB"
