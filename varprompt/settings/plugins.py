"""Plug-ins: modules of other people that register posteriors, trainers, data sets, CLIP sources.

They come from the entry points of installed packages (group ``varprompt.plugins``), from
``$VARPROMPT_PLUGINS`` and from ``--import``, in this order. A name is that of a module, found in
the working directory, too, or a .py file.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from ..errors import ConfigError, VarPromptError
from .flags import given

ENVIRONMENT = "VARPROMPT_PLUGINS"
ENTRY_POINTS = "varprompt.plugins"
_PACKAGE = Path(__file__).resolve().parent.parent


def add_import_flag(parser: argparse.ArgumentParser) -> None:
    """Give a command line the flag --import; its values are in ``plugins``."""
    parser.add_argument(
        "--import", dest="plugins", action="append", default=[], metavar="MODULE", type=given,
        help="a module or .py file with a posterior, trainer, data set ... of your own; may be "
             f"given several times. ${ENVIRONMENT} names such modules, too (separated by commas)",
    )  # fmt: skip


def load_plugins(names: Iterable[str] = ()) -> list[str]:
    """Import all plug-ins, each once; returns their names.

    Args:
        names: modules or files besides those of the entry points and the environment.

    Raises:
        ConfigError: one of them does not exist or cannot be imported; all such are named.
    """
    share_packages()
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # last: nothing there may hide an installed package
    listed = [name.strip() for name in os.environ.get(ENVIRONMENT, "").split(",")]
    sources: list[tuple[str | EntryPoint, str]] = [
        *((entry, f"entry point {ENTRY_POINTS}") for entry in entry_points(group=ENTRY_POINTS)),
        *((name, f"${ENVIRONMENT}") for name in listed if name),
        *((name, "--import") for name in names),
    ]
    if sources:
        from ..standin.which import ensure_dassl

        ensure_dassl()  # a trainer or data set registers itself there, whichever command asks
    problems: list[str] = []
    loaded = []
    for plugin, where in sources:
        name = plugin if isinstance(plugin, str) else plugin.value
        try:
            if isinstance(plugin, EntryPoint):
                plugin.load()
            elif name.endswith(".py"):
                _import_file(Path(os.path.expanduser(name)))
            else:
                importlib.import_module(name)
            loaded.append(name)
        except (Exception, SystemExit) as error:  # somebody's module may raise anything
            problems.append(f"plug-in {name!r} ({where}) {_reason(name, error)}")
    if problems:
        raise ConfigError(problems)
    return loaded


def share_packages() -> None:
    """Make data sets and trainers the same modules under both of their names.

    In a checkout they are ``datasets`` and ``trainers``, installed ``varprompt.datasets`` and
    ``varprompt.trainers``. Either name may be used (the short ones only if no other package has
    them) without registering anything twice; afterwards the long ones work everywhere.
    """
    aliases = {}
    root = _PACKAGE.parent
    installed = (_PACKAGE / "datasets").is_dir()
    for name in ("datasets", "trainers"):
        found = _origin(name)
        if not installed and found == root / name / "__init__.py":
            aliases[f"varprompt.{name}"] = name
        elif not found:
            aliases[name] = f"varprompt.{name}"
    package = sys.modules["varprompt"].__path__
    if not installed and str(root) not in package:
        package.append(str(root))  # a checkout whose own folder is not, or not first, on the path
    if not any(isinstance(finder, _Aliases) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Aliases(aliases))


def _origin(name: str) -> Path | None:
    """The file of a top-level package; None if there is none or only a folder without code."""
    module = sys.modules.get(name)
    spec = module.__spec__ if module else importlib.util.find_spec(name)
    return Path(spec.origin).resolve() if spec and spec.origin else None


class _Aliases(MetaPathFinder, Loader):
    """Finds packages under other names, without executing their code again."""

    def __init__(self, names: dict[str, str]):
        self._names = names
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module of the same package under its first name."""
        if self._real(fullname) is None:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module that exists, or is imported now under its first name."""
        module = importlib.import_module(self._real(spec.name) or spec.name)
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Undo what the import machinery has noted: the module is what it was."""
        if module.__spec__ is not None:
            module.__spec__ = self._specs.pop(module.__spec__.name, module.__spec__)

    def _real(self, name: str) -> str | None:
        for alias, real in self._names.items():
            if name == alias or name.startswith(f"{alias}."):
                return real + name[len(alias) :]
        return None


def _import_file(path: Path) -> None:
    """Import a file as a module of ``datasets`` (or ``trainers``, if it lies in such a folder).

    Then the relative imports of CoOp's own files find the modules here.
    """
    package = "trainers" if path.resolve().parent.name == "trainers" else "datasets"
    if (_PACKAGE / package / "__init__.py").is_file():
        package = f"varprompt.{package}"
    name = f"{importlib.import_module(package).__name__}.{path.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ and Path(known.__file__).resolve() == path.resolve():
        return
    if known is not None or importlib.util.find_spec(name) is not None:
        raise ConfigError(f"cannot be called {path.stem}: varprompt has a module {name}")
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError("does not exist")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _reason(name: str, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and _begins(name, error.name):
        here = f"neither in the working directory {os.getcwd()} nor installed"
        return f"does not exist: there is no module {error.name!r}, {here}"
    if isinstance(error, VarPromptError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {error}"
    return f"cannot be imported: {what} ({last.filename}, line {last.lineno})"


def _begins(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")
