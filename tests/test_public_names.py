"""What `varprompt` offers by name, what importing it costs, and old paths that users may hold."""

import importlib
import subprocess
import sys
import types

import pytest

import varprompt

OLD_PATHS = {  # of 0.1.0, in its README or in notebooks
    "varprompt.clip_io": "load_clip",
    "varprompt.config": "PromptConfig",
    "varprompt.learner_state": "load_learner",
    "varprompt.model": "PromptedCLIP",
    "varprompt.objective": "objective",
    "varprompt.posterior": "GaussianPosterior",
    "varprompt.prompt": "PromptSample",
}


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)  # noqa: S603


def test_names_are_what_they_are_called():
    for name in varprompt.__all__:
        value = getattr(varprompt, name)
        assert getattr(value, "__name__", name).rpartition(".")[2] == name
    assert isinstance(varprompt.objective, types.ModuleType)
    assert set(varprompt.__all__) <= set(dir(varprompt))
    with pytest.raises(AttributeError, match="no attribute 'PromptClassifyer'"):
        varprompt.PromptClassifyer  # noqa: B018


def test_names_are_declared_for_type_checkers_too():
    lazy = {name for names in varprompt._HOMES.values() for name in names}
    assert lazy == set(varprompt.__all__) - {"__version__", "objective"}


@pytest.mark.parametrize(("module", "name"), OLD_PATHS.items())
def test_old_paths(module, name):
    assert getattr(importlib.import_module(module), name) is not None


def test_old_path_of_extend_cfg():
    from varprompt.config import extend_cfg
    from varprompt.settings.nodes import extend_cfg as here

    assert extend_cfg is here


def test_importing_costs_nothing():
    code = "import sys, varprompt; print(*({'torch', 'numpy', 'clip', 'yacs'} & set(sys.modules)))"
    done = run(code)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_the_library_needs_neither_dassl_nor_yacs():
    code = (
        "import sys; sys.modules['yacs'] = sys.modules['dassl'] = None; import varprompt; "
        "[getattr(varprompt, name) for name in varprompt.__all__]; print('well')"
    )
    done = run(code)
    assert done.stdout == "well\n", done.stderr
