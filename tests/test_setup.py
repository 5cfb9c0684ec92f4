"""Packaging (what is installed, under which name) and scripts/setup.sh (offline, tiny wheels)."""

import os
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = [
    Requirement(text)
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if (text := line.split("#")[0].strip())
]


# ---------------------------------------------------------------- packaging


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The tree that `pip install` would copy to site-packages, built from a copy of the source."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("varprompt", "trainers", "datasets"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", "built"]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    return copy / "built"


def test_everything_is_installed_inside_varprompt(built):
    assert [path.name for path in built.iterdir()] == ["varprompt"]


@pytest.mark.parametrize("source", ["varprompt", "trainers", "datasets"])
def test_no_module_or_data_file_is_left_out(built, source):
    installed = Path("varprompt") / ("" if source == "varprompt" else source)
    wanted = {".py", ".yaml", ".csv", ".json", ".npz", ".safetensors"}
    for path in (ROOT / source).rglob("*"):
        if path.suffix in wanted and "__pycache__" not in path.parts:
            assert (built / installed / path.relative_to(ROOT / source)).is_file(), path


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_every_requirement_has_one_exact_pin_for_every_python(python):
    names = {requirement.name for requirement in REQUIREMENTS}
    for name in names:
        pins = [
            requirement
            for requirement in REQUIREMENTS
            if requirement.name == name
            and (not requirement.marker or requirement.marker.evaluate({"python_version": python}))
        ]
        assert len(pins) == 1, (name, python)
        assert str(pins[0].specifier).startswith("=="), pins[0]


def test_pins_lie_within_what_setup_py_accepts():
    script = (
        "import runpy, setuptools\n"
        "setuptools.setup = lambda **given: print(*given['install_requires'], sep='\\n')\n"
        "runpy.run_path('setup.py')"
    )
    command = [sys.executable, "-c", script]
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    bounds = {(r := Requirement(line)).name: r.specifier for line in out.splitlines()}
    pins = {}
    for requirement in REQUIREMENTS:
        pins.setdefault(requirement.name, []).append(str(requirement.specifier).removeprefix("=="))
    assert bounds
    for name, specifier in bounds.items():
        assert all(specifier.contains(version) for version in pins[name]), name


# ---------------------------------------------------------------- scripts/setup.sh


def write_wheel(folder: Path, version: str) -> None:
    """A wheel of one empty module, so that pip has something to install without a network."""
    info = f"vptprobe-{version}.dist-info"
    with zipfile.ZipFile(folder / f"vptprobe-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("vptprobe.py", "")
        about = f"Metadata-Version: 2.1\nName: vptprobe\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", about)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")


class Checkout:
    """A folder with scripts/setup.sh and a requirements.txt of one tiny package."""

    def __init__(self, root: Path):
        self.root = root / "a check out"
        (self.root / "scripts").mkdir(parents=True)
        shutil.copy(ROOT / "scripts/setup.sh", self.root / "scripts")
        self.wheels = root / "wheels"
        self.wheels.mkdir()
        self.require("vptprobe==1.0")
        write_wheel(self.wheels, "1.0")
        self.python = self.root / ".venv/bin/python"

    def require(self, text: str) -> None:
        (self.root / "requirements.txt").write_text(f"# pins\n{text}  # reason\n")

    def start(self, **env: str) -> subprocess.Popen:
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR", "LANG")}
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.wheels.as_uri()}
        return subprocess.Popen(
            ["bash", str(self.root / "scripts/setup.sh")],
            env=keep | offline | {"PYTHON": sys.executable} | env,
            cwd="/",
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, **env: str) -> subprocess.CompletedProcess:
        process = self.start(**env)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def probe_version(self) -> str:
        code = "import importlib.metadata as m; print(m.version('vptprobe'))"
        return subprocess.check_output([self.python, "-c", code], text=True).strip()


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path)


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_life_of_an_environment(checkout):
    """First calls, together; then nothing to do; new pins; an installation that was cut off."""
    together = [checkout.start() for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in together]
    assert [process.returncode for process in together] == [0, 0], outputs
    assert [out for out, _ in outputs] == [f"{checkout.python}\n"] * 2
    assert "".join(err for _, err in outputs).count("installing") == 1
    assert checkout.probe_version() == "1.0"

    start = time.perf_counter()
    again = checkout.run()
    assert (again.stdout, again.stderr) == (f"{checkout.python}\n", "")
    assert time.perf_counter() - start < 1

    checkout.require("vptprobe==2.0")
    failed = checkout.run()
    assert failed.returncode == 1 and failed.stdout == ""
    assert "could not install requirements.txt" in failed.stderr
    assert "PIP_INDEX_URL" in failed.stderr

    write_wheel(checkout.wheels, "2.0")
    (checkout.root / ".venv/half-done").touch()
    redone = checkout.run()
    assert redone.returncode == 0 and checkout.probe_version() == "2.0"
    assert not (checkout.root / ".venv/half-done").exists()


def test_active_environment_is_used_or_the_gap_is_named(checkout):
    checkout.require(f"pytest=={pytest.__version__}")
    active = str(Path(sys.prefix))
    assert checkout.run(VIRTUAL_ENV=active).stdout == f"{active}/bin/python\n"
    assert checkout.run(CONDA_PREFIX=active).stdout == f"{active}/bin/python\n"
    checkout.require("vptprobe==1.0")
    passed_over = checkout.run(VIRTUAL_ENV=active, PYTHON="/nowhere/python")
    assert "lacks 1 of the pinned packages" in passed_over.stderr
    assert "vptprobe==1.0 (found: None)" in passed_over.stderr


def test_foreign_venv_is_never_deleted(checkout):
    executable(checkout.python, "#!/bin/sh\necho 3.9\n")
    result = checkout.run()
    assert result.returncode == 1 and "move it away" in result.stderr
    assert checkout.python.exists()


@pytest.mark.parametrize("script", ["#!/bin/sh\necho 3.9\n", "#!/bin/sh\nexit 127\n"])
def test_unfit_python_is_named(checkout, tmp_path, script):
    python = executable(tmp_path / "bin/python", script)
    result = checkout.run(PYTHON=str(python))
    assert result.returncode == 1
    assert f"PYTHON={python} must be a Python 3.10 to 3.12" in result.stderr
    assert not checkout.python.exists()


def test_pyenv_like_shims_that_fail_are_passed_over(checkout, tmp_path):
    """python3.12 that exits 127 and a python3.11 that is 3.13 do not stop the search."""
    bin_dir = tmp_path / "bin"
    executable(bin_dir / "python3.12", "#!/bin/sh\nexit 127\n")
    executable(bin_dir / "python3.11", "#!/bin/sh\necho 3.13\n")
    executable(bin_dir / "python3.10", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    result = checkout.run(PYTHON="", PATH=f"{bin_dir}:{os.environ['PATH']}")
    assert result.returncode == 0 and "(python3.10)" in result.stderr


def test_python_bin_is_taken_as_given(checkout):
    result = checkout.run(PYTHON_BIN="/any/python")
    assert (result.stdout, result.stderr, result.returncode) == ("/any/python\n", "", 0)
