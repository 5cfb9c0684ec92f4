"""OpenAI's `clip`, imported under this name from the files of the distribution clip-anytorch.

A plain ``import clip`` finds whatever folder of that name comes first on the path: in a checkout of
MaPLe or PromptSRC a modified copy that builds another model, in an environment with PyPI's project
`clip` a clipboard manager. So this module is a package whose folder is the one that clip-anytorch
was installed to; ``sys.modules["clip"]`` is neither read nor written.

Importing it loads the tokenizer's vocabulary; use `varprompt.towers.build.clip_module`, which does
that late and explains what is missing.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import packaging
import packaging.version

_DISTRIBUTIONS = ("clip-anytorch", "openai-clip", "clip")  # the last one: OpenAI's own repository
_FILES = ("clip.py", "model.py", "simple_tokenizer.py", "bpe_simple_vocab_16e6.txt.gz")


def _folder() -> str:
    """Where the installed distribution has its modules.

    Raises:
        ImportError: none is installed, or files are missing.
    """
    for name in _DISTRIBUTIONS:
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        folder = Path(str(found.locate_file("clip")))
        if all((folder / file).is_file() for file in _FILES):
            return str(folder)
    raise ImportError("no installed distribution has the files of OpenAI's CLIP")


@contextmanager
def _with_pkg_resources() -> Iterator[None]:
    """Let the import find what it takes of `pkg_resources`, which setuptools has no longer.

    That is its copy of `packaging`. The real one is not tried first: it warns, or has none.
    """
    name = "pkg_resources"
    before = sys.modules.get(name)
    stand_in = sys.modules[name] = ModuleType(name)
    stand_in.packaging = packaging  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


__path__ = [_folder()]

with _with_pkg_resources():
    clip: Any = importlib.import_module(f"{__name__}.clip")
    model: Any = importlib.import_module(f"{__name__}.model")
    simple_tokenizer: Any = importlib.import_module(f"{__name__}.simple_tokenizer")

tokenize = clip.tokenize
