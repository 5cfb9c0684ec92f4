"""Systems other than Linux: what macOS or Windows lack is taken away, and a run trains."""

import os
import subprocess
import sys

from helpers import ROOT, command, pictures  # noqa: F401 - a fixture

ELSEWHERE = """
import os, signal, sys
for owner, names in (
    (os, ("sched_getaffinity", "fork", "forkpty", "getuid", "geteuid", "O_DIRECTORY")),
    (signal, ("alarm", "SIGALRM", "setitimer", "SIGHUP", "SIGUSR1")),
):
    for name in names:
        if hasattr(owner, name):
            delattr(owner, name)
for name in ("fcntl", "resource", "pwd", "grp"):
    sys.modules[name] = None
import train
sys.exit(train.main(sys.argv[1:]))
"""


def test_a_run_without_what_only_linux_has(pictures, tmp_path):  # noqa: F811
    arguments = command(pictures, tmp_path / "out", OPTIM__MAX_EPOCH=1)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("DASSL_ROOT")]))
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *arguments], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": path, "VARPROMPT_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/results.json").is_file()


def test_workers_without_alarm(monkeypatch):
    """A worker that cannot set itself an alarm leaves signals to its parent all the same."""
    import signal

    from varprompt.images.workers import set_up_worker

    set_to = {}
    monkeypatch.setattr(signal, "signal", set_to.__setitem__)
    monkeypatch.delattr(signal, "alarm")
    set_up_worker(0)
    assert set_to == dict.fromkeys((signal.SIGINT, signal.SIGHUP), signal.SIG_IGN)
