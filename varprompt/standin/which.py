"""Which Dassl is in use."""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import logging
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from ..errors import ConfigError

_STAND_IN = Path(__file__).resolve().parent / "dassl"
_log = logging.getLogger(__name__)


@functools.cache
def ensure_dassl() -> str:
    """Make ``import dassl`` work: the installed Dassl if there is one, else the stand-in.

    Returns:
        Which one is in use, for example "built-in stand-in for Dassl".

    Raises:
        ConfigError: there is a Dassl, but it cannot be imported.
    """
    origin = _origin("dassl")
    if origin is not None:
        package = _import_politely(origin)
        version = getattr(package, "__version__", "of unknown version")
        description = f"Dassl {version} at {origin.parent}"
    else:
        sys.meta_path.insert(0, _StandIn())  # first: a mere folder called dassl has no code
        description = "built-in stand-in for Dassl"
    _log.info("using %s", description)
    return description


class _StandIn(importlib.abc.MetaPathFinder):
    """Finds the top-level package dassl in this folder, and nothing else in it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The stand-in, if `name` is its name."""
        if name != "dassl":
            return None
        return importlib.util.spec_from_file_location(
            name, _STAND_IN / "__init__.py", submodule_search_locations=[str(_STAND_IN)]
        )


def _origin(name: str) -> Path | None:
    """The file of a top-level package; None if there is none or only a folder without code."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # in sys.modules, but made by hand
        return None
    return Path(spec.origin).resolve() if spec and spec.origin else None


def _import_politely(origin: Path) -> ModuleType:
    """Import Dassl's datasets without what they do to the process besides.

    They turn off the logging of warnings everywhere, and `wilds` starts a thread that asks the
    package index for newer versions. It has no switch for that, but does without if its
    helper `outdated` cannot be imported.
    """
    disabled_level = logging.root.manager.disable
    hidden = "outdated" not in sys.modules
    if hidden:
        sys.modules["outdated"] = None  # type: ignore[assignment]
    try:
        import dassl.data.datasets
    except ImportError as error:
        raise ConfigError(
            f"Dassl at {origin.parent} cannot be imported: {error}; install its requirements or "
            "take it off sys.path to use the built-in stand-in"
        ) from error
    finally:
        if hidden:
            del sys.modules["outdated"]
        logging.disable(disabled_level)
    return dassl
