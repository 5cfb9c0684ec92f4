"""Arrays of SLURM: what is submitted, and tasks that are put back into the queue."""

import os
import pickle
import signal
import time
from pathlib import Path

import pytest
from stand_in import calls

from varprompt.errors import ConfigError
from varprompt.sweep.on_slurm import chains, submit

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A stub that keeps the script it is given; returns where."""
    kept = tmp_path / "script"
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "srun", "scontrol", "sacct"):
        file = tmp_path / "bin" / name
        file.write_text(f'#!/bin/bash\n[[ $1 == *.sh ]] && cat "$1" >>{kept}\n'
                        "echo Submitted batch job 123\n")  # fmt: skip
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", "")
    return kept


def test_an_array_with_a_task_for_each_training_and_its_tests(fake, sbatch, tmp_path):
    cells = [fake("a"), fake("a_test", "a"), fake("b"), fake("b_test", "b"), fake("c")]
    work = chains(cells, 1, 2, finished=["b", "c"])
    assert [[cell.name for cell in chain.cells] for chain in work] == [["a", "a_test"], ["b_test"]]
    options = {"partition": "gpu", "timeout_min": "90", "account": "me"}
    jobs = submit(work, tmp_path / "slurm", options, jobs=1)
    assert [job.job_id for job in jobs] == ["123_0", "123_1"]
    script = sbatch.read_text()
    for line in ("--array=0-1%1", "--partition=gpu", "--time=90", "--account=me",
                 "--gpus-per-node=1", "--signal=USR2@90", "--job-name=varprompt"):  # fmt: skip
        assert f"#SBATCH {line}\n" in script
    pickles = sorted((tmp_path / "slurm").glob("*/*_submitted.pkl"))
    assert [pickle.loads(file.read_bytes()).function.cells for file in pickles] == [
        cells[:2], [cells[3]],
    ]  # fmt: skip


def test_without_slurm(fake, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="needs SLURM's sbatch"):
        submit(chains([fake("a")], 1, 1, ()), tmp_path, {}, 0)
    with pytest.raises(ConfigError, match="cannot be submitted: .*only one node"):
        submit(chains([fake("a")], 1, 1, ()), tmp_path, {"nodes": "2"}, 0, "local")


def test_a_task_is_put_back_into_the_queue_and_goes_on(fake, tmp_path, monkeypatch):
    """As at the end of its time: the run saves its state; what is finished is not run again."""
    cells = [fake("first"), fake("second", "first", ends="wait 0")]
    stub = tmp_path / "stub"
    stub.mkdir()
    (stub / "sitecustomize.py").write_text(
        "import sys\nfrom varprompt.sweep import work\n"
        f"work.COMMAND = (sys.executable, '-S', '-E', {str(tmp_path / 'fake.py')!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{stub}:{ROOT}")
    work = chains(cells, 1, 1, ())
    (job,) = submit(work, tmp_path / "slurm", {"timeout_min": "2"}, 0, "local")
    end = time.monotonic() + 60
    while not (cells[1].folder / "waits").exists():
        assert time.monotonic() < end, job.stderr()
        time.sleep(0.05)
    (task,) = Path(f"/proc/{job.job_id}/task/{job.job_id}/children").read_text().split()
    os.kill(int(task), signal.SIGUSR2)
    assert job.result() == {}
    assert (cells[1].folder / "state").exists() and len(calls(cells[1])) == 2


def test_a_task_fails_when_one_of_its_runs_does(fake):
    work = chains([fake("bad", ends="2"), fake("its_test", "bad")], 1, 1, ())
    with pytest.raises(RuntimeError, match="failed: bad: it is bad; its_test: not run"):
        work[0]()
