"""The command refuses what cannot be, before a model is loaded; it listens on this machine only."""

import os
import socket
import sys
import types

import pytest
from classifiers import classifier

from varprompt.app import command
from varprompt.common.console import run_tool

TOOL = "varprompt.app.command"


@pytest.fixture
def served(monkeypatch):
    """What would be shown where: Gradio stays out."""
    calls = []
    page = types.ModuleType("varprompt.app.page")
    page.serve = lambda *arguments: calls.append(arguments)
    monkeypatch.setitem(sys.modules, "varprompt.app.page", page)
    monkeypatch.setattr(command, "find_spec", lambda name: name)
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    return calls


def test_this_machine_only(served, tmp_path, capsys):
    classifier().save(tmp_path / "pets")
    assert run_tool(TOOL, [str(tmp_path / "pets")]) == 0
    assert capsys.readouterr().err == ""
    answers, *rest = served[0]
    host, port, browser = rest
    assert host == "127.0.0.1" and 7860 <= port < 7960 and browser is False
    assert answers.name == "pets"
    assert answers.own_classes.splitlines() == list(classifier().class_names_)
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        port = probe.getsockname()[1]
    flags = ["--host", "0.0.0.0", "--port", str(port), "--open"]
    assert run_tool(TOOL, [str(tmp_path / "pets"), *flags]) == 0
    assert "whoever reaches 0.0.0.0" in capsys.readouterr().err
    assert served[1][1:] == ("0.0.0.0", port, True)


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.168.0.2", False), ("box.local", False)],
)  # fmt: skip
def test_addresses(host, alone):
    assert command._only_here(host) is alone


@pytest.mark.parametrize(
    ("flags", "said"),
    [(["--port", "70000", "--risk", "0"], "--port is 70000"), (["--risk", "2"], "--risk is 2.0"),
     ([], "gone does not exist")],
)  # fmt: skip
def test_bad_input(served, flags, said, tmp_path, capsys):
    assert run_tool(TOOL, [str(tmp_path / "gone"), *flags]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and said in shown and not served


def test_where_nobody_can_listen(served, tmp_path, capsys):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        flags = {"--port": str(port), "--host": "192.0.2.1"}  # the second one is nobody's
        for flag, value in flags.items():
            assert run_tool(TOOL, [str(tmp_path), flag, value]) == 2
            said = capsys.readouterr().err
            assert said.startswith("error: nobody can listen at") and said.count("\n") == 1
        assert command.free_port("127.0.0.1", [port, port, 0]) == 0


def test_without_gradio(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert run_tool(TOOL, [str(tmp_path)]) == 2
    assert "pip install 'varprompt[app]'" in capsys.readouterr().err
