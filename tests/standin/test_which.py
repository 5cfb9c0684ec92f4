"""Which Dassl is found, and how politely it is imported."""

import logging
import os
import subprocess
import sys
import threading
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from varprompt.standin.which import ensure_dassl

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = str(ROOT / "varprompt" / "standin" / "dassl")
LOG = "logging.basicConfig(format='%(message)s', level='INFO', stream=sys.stdout)"


def installed():
    """The folder of a Dassl that is installed in this environment; None without."""
    path = [p for p in sys.path if p != os.environ.get("DASSL_ROOT")]
    spec = PathFinder.find_spec("dassl", path)
    return str(Path(spec.origin).parent) if spec and spec.origin else None


def run(folder, *lines, path=()):
    """Run lines of Python in `folder` with nothing but `path` and the checkout on the path."""
    environment = {k: v for k, v in os.environ.items() if k != "DASSL_ROOT"}
    environment["PYTHONPATH"] = os.pathsep.join([*map(str, path), str(ROOT)])
    code = "\n".join(["import logging, sys", LOG, "from varprompt.standin.which import *", *lines])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def make_package(folder, name, code=""):
    """A package whose own and whose parents' __init__.py exist; `code` goes into its own."""
    for part in Path(name).parents:
        if part.name:
            make_package(folder, part)
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "__init__.py").write_text(code)


@pytest.fixture
def foreign(tmp_path):
    """A folder with a Dassl that behaves as the real one does on import."""
    make_package(
        tmp_path,
        "dassl/data/datasets",
        "import logging\nlogging.disable(logging.WARNING)\n"
        "try:\n    import outdated\nexcept ImportError:\n    outdated = None\n",
    )
    (tmp_path / "dassl" / "__init__.py").write_text("__version__ = '9.1'")
    make_package(tmp_path, "outdated", "print('asks the package index')")
    return tmp_path


@pytest.mark.skipif(installed() is not None, reason="needs an environment without Dassl")
def test_stand_in_when_there_is_none(tmp_path):
    (tmp_path / "dassl").mkdir()  # a mere folder of that name is not Dassl
    lines = run(
        tmp_path,
        "before = list(sys.path)",
        "print(ensure_dassl()); ensure_dassl()",
        "assert sys.path == before",
        "import dassl; print(dassl.__file__); print('torch' in sys.modules)",
        "import importlib.util; print(importlib.util.find_spec('which'))",
    )
    said = "built-in stand-in for Dassl"
    assert lines == [f"using {said}", said, f"{STAND_IN}/__init__.py", "False", "None"]


def test_installed_dassl_wins(tmp_path, foreign):
    lines = run(
        tmp_path,
        "before = list(sys.path)",
        "print(ensure_dassl())",
        "assert sys.path == before",
        "import dassl; print(dassl.__version__)",
        path=[foreign],
    )
    said = f"Dassl 9.1 at {foreign / 'dassl'}"
    assert lines == [f"using {said}", said, "9.1"]


def test_import_leaves_logging_and_network_alone(tmp_path, foreign):
    lines = run(
        tmp_path,
        "logging.disable(5)",
        "ensure_dassl()",
        "import dassl.data.datasets; print(dassl.data.datasets.outdated)",
        "print(logging.root.manager.disable)",
        "import outdated",
        path=[foreign],
    )
    said = f"using Dassl 9.1 at {foreign / 'dassl'}"
    assert lines == [said, "None", "5", "asks the package index"]


def test_broken_dassl_is_explained(tmp_path, foreign):
    (foreign / "dassl" / "data" / "__init__.py").write_text("import no_such_module")
    lines = run(
        tmp_path,
        "try:\n    ensure_dassl()\nexcept ConfigError as error:\n    print(error)",
        "print(logging.root.manager.disable, 'outdated' in sys.modules)",
        path=[foreign],
    )
    assert len(lines) == 2 and lines[1] == "0 False"
    assert str(foreign / "dassl") in lines[0] and "no_such_module" in lines[0]
    assert "install its requirements" in lines[0]


def test_here_and_now():
    """In this process: the Dassl of DASSL_ROOT, an installed one, or the stand-in; politely."""
    root = os.environ.get("DASSL_ROOT")
    expected = str(Path(root, "dassl").resolve()) if root else installed() or "built-in stand-in"
    assert expected in ensure_dassl()
    assert logging.root.manager.disable == 0
    assert not [t for t in threading.enumerate() if t.name.endswith("(check)")]


def test_stand_in_imports_nothing_it_may_not_need(tmp_path):
    if os.environ.get("DASSL_ROOT") or installed():
        pytest.skip("the stand-in is not active: run without DASSL_ROOT and Dassl")
    lines = run(
        tmp_path,
        "ensure_dassl()",
        "import dassl.engine, dassl.evaluation, dassl.metrics, dassl.optim",
        "from dassl.utils import collect_env_info",
        "heavy = ('sklearn', 'scipy', 'pandas', 'tensorboard', 'tabulate', 'gdown', 'matplotlib')",
        "print([name for name in heavy if name in sys.modules])",
        "print('torch.utils.tensorboard' in sys.modules)",
    )
    assert lines[1:] == ["[]", "False"]


@pytest.mark.parametrize("name", ["world", "paint", "sets", "which"])
def test_nothing_but_dassl_becomes_importable(tmp_path, name):
    """Where the stand-in is found, this project's own modules are not."""
    code = "import importlib.util, sys; from varprompt.standin.which import ensure_dassl; "
    code += f"ensure_dassl(); import dassl; sys.exit(bool(importlib.util.find_spec({name!r})))"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env).returncode == 0
