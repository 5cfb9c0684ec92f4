"""The command ``varprompt``, also ``python -m varprompt``: all command lines under one name."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence

from .common.console import EXIT_BAD_INPUT, EXIT_RESUMABLE, exit_at_interrupt, out, run_tool, say

exit_at_interrupt()  # until a command takes over: its imports take a while

# name -> module with main(argv) -> exit code, what it does
COMMANDS = {
    "demo": (
        "varprompt.commands.demo",
        "train all methods on small data sets; with a FOLDER: a classifier of your own photos",
    ),
    "train": (
        "varprompt.commands.train",
        "train a prompt learner and test it: CoOp's command line",
    ),
    "test": ("varprompt.commands.train", "test a trained one: train --eval-only"),
    "predict": ("varprompt.predict.command", "what is on images, and how sure that is"),
    "app": ("varprompt.app.command", "a page on this machine: drop photos, see answers"),
    "export": ("varprompt.export.command", "a model as ONNX, as a matrix, as a torch program"),
    "interpret": ("varprompt.interpret.command", "the words nearest to what was learned"),
    "sweep": ("varprompt.sweep.command", "whole tables and grids, on GPUs, cores, Ray or SLURM"),
    "cost": ("varprompt.commands.cost", "does a training fit a GPU, and how long does it take"),
    "report": ("varprompt.report.command", "tables and figures from a folder of results"),
    "fetch": ("varprompt.datasets.fetching", "get data sets from the network, where that can be"),
    "check": ("varprompt.datasets.inspection", "which data sets are there, complete, readable"),
    "convert": (
        "varprompt.commands.convert",
        "checkpoints from this project's layout to CoOp's and back",
    ),
    "configs": ("", "print the folder of the configuration files"),
}


def usage() -> str:
    """What ``varprompt --help`` prints."""
    lines = [f"  {name:9} {does}" for name, (_, does) in COMMANDS.items()]
    return "\n".join([
        "usage: varprompt COMMAND ...", "", "Variational prompt tuning for CLIP.", "", *lines, "",
        "varprompt COMMAND --help explains a command; varprompt --version prints the version.",
    ])  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    name, *arguments = [*(sys.argv[1:] if argv is None else argv)] or ["--help"]
    if name in ("--help", "-h"):
        out(usage())
        return 0
    if name == "--version":
        from . import __version__

        out(__version__)
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, [*COMMANDS, "--help", "--version"], 1, 0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        say(f"error: there is no command {name!r}; choose from {', '.join(COMMANDS)}{hint}")
        return EXIT_BAD_INPUT
    if name == "configs":
        from .settings.configs import configs_folder

        out(str(configs_folder()))
        return 0
    if name == "train" or name == "test":
        exit_at_interrupt(EXIT_RESUMABLE)
        from .commands import train

        return train.main([*(["--eval-only"] if name == "test" else []), *arguments])
    from .settings.plugins import share_packages

    share_packages()
    return run_tool(COMMANDS[name][0], arguments)


if __name__ == "__main__":
    sys.exit(main())
