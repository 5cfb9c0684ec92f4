"""A command line that explains its errors."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from pathlib import Path
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Names the nearest flag when there is no such flag."""

    def error(self, message: str) -> NoReturn:
        """Print `message` and leave."""
        hints = []
        for wrong in re.findall(r"--[\w-]+", message.partition("unrecognized arguments:")[2]):
            flags = list(self._option_string_actions)
            near = [flag for flag in flags if flag.startswith(wrong)]
            near = near or difflib.get_close_matches(wrong, flags, 1)
            hints += [f"; did you mean {near[0]} instead of {wrong}?"] if near else []
        sys.stderr.write(f"error: {message}{''.join(hints)} (--help lists all flags)\n")
        raise SystemExit(2)


def given(text: str) -> str:
    """`text`, which a flag was given; a shell variable without a value gives nothing.

    Raises:
        argparse.ArgumentTypeError: it is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def given_path(text: str) -> Path:
    """The path that a flag was given; the shell leaves the ~ of ``--output=~/x`` alone.

    Raises:
        argparse.ArgumentTypeError: it is empty, which would be the working directory.
    """
    return Path(os.path.expanduser(given(text)))


def given_among_others(text: str) -> str:
    """`text`, one of the values of a flag that takes several.

    Raises:
        argparse.ArgumentTypeError: it is empty, or a KEY that the flag would swallow.
    """
    if re.fullmatch(r"[A-Z_]+(\.[A-Z0-9_]+)+", text):
        raise argparse.ArgumentTypeError(
            f"{text} begins KEY VALUE pairs; put another flag between them and this one"
        )
    return given(text)
