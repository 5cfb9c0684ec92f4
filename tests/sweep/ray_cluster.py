"""A Ray cluster of two nodes, one of which is killed in the middle."""

import threading
import time
import warnings

import pytest
from helpers import command, make_pictures

import train
from benchmarks.sweep_nodes import content_of
from varprompt.run.interrupt import StopRequest
from varprompt.sweep.cells import Cell
from varprompt.sweep.memory import MemoryModel
from varprompt.sweep.on_ray import RayPool
from varprompt.sweep.schedule import Scheduler


@pytest.fixture(scope="module")
def cluster():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray, on its own future
        import ray
        from ray.cluster_utils import Cluster

        fast = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500,
                "health_check_failure_threshold": 4}  # fmt: skip
        made = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": fast},
        )
        yield made
        ray.shutdown()
        made.shutdown()


def cells_in(folder, data):
    """Two trainings, which end with a test, and a test of the first."""
    options = {"OPTIM__MAX_EPOCH": 1, "DATALOADER__NUM_WORKERS": 0, "TEST__CACHE_SIZE_GB": 0}
    runs = [folder / f"run{seed}" for seed in (1, 2)]
    found = [
        Cell(run.name, tuple(command(data, run, seed=seed, **options)))
        for seed, run in enumerate(runs, 1)
    ]
    test = command(data, folder / "test1", "--model-dir", runs[0], "--eval-only", **options)
    return [*found, Cell("test1", tuple(test), "run1")]


@pytest.mark.filterwarnings("ignore")  # Ray leaves sockets and processes to its end
def test_a_lost_node_changes_nothing(cluster, tmp_path, monkeypatch):
    data = make_pictures(tmp_path / "data")
    cells, alone = (cells_in(tmp_path / name, data) for name in ("ray", "alone"))
    doomed = cluster.add_node(num_cpus=1)
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    pool = RayPool(cluster.address, MemoryModel(), None, 1)
    said = []

    def kill():
        end = time.monotonic() + 120
        while not all((cells[i].folder / "sweep.txt").exists() for i in (0, 1)):  # on both nodes
            if time.monotonic() > end:
                return
            time.sleep(0.05)
        cluster.remove_node(doomed, allow_graceful=False)

    threading.Thread(target=kill).start()
    scheduler = Scheduler(pool, 2, StopRequest(), lambda c, o, again: said.append((again, o)))
    report = scheduler.run(cells)
    assert report.failed == {} and sorted(report.done) == sorted(cell.name for cell in cells)
    lost = [outcome.reason for again, outcome in said if again]
    assert lost and all(reason.startswith("lost with its worker or node") for reason in lost)
    for cell, other in zip(cells, alone, strict=True):
        assert train.main(list(other.argv)) == 0
        assert content_of(cell.folder) == content_of(other.folder)
