"""How much memory is taken to be free: machines, containers, other systems, other devices."""

import os
from types import SimpleNamespace

import pytest
import torch
from helpers import NAMES, small_clip

from varprompt.towers import memory
from varprompt.towers.memory import automatic_budget, free_memory
from varprompt.towers.text import FrozenTextEncoder
from varprompt.towers.tokens import class_tokens

CPU, GIB = torch.device("cpu"), 1 << 30
NOT_LIMITED = 9223372036854771712  # what version 1 of control groups says then
V1_PATH, V2_PATH = "4:memory:/docker/1234\n1:cpu:/\n", "0::/user.slice/job 7\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Make a Linux with 24 GiB free and the given files of control groups."""

    def make(own_groups=None, *, meminfo=f"MemTotal: 9 kB\nMemAvailable: {24 << 20} kB\n", **files):
        for name, path in (("_MEMINFO", "meminfo"), ("_OWN_GROUPS", "own"), ("_GROUPS", "tree")):
            monkeypatch.setattr(memory, name, tmp_path / path)
        for path, text in (("meminfo", meminfo), ("own", own_groups)):
            if text is not None:
                (tmp_path / path).write_text(text)
        for name, text in files.items():
            path = tmp_path / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(text))

    return make


def test_what_the_machine_has_without_limits(machine):
    machine()
    assert free_memory(CPU) == 24 * GIB and automatic_budget(CPU) == 8 * GIB


# folder of the group in the tree, content of /proc/self/cgroup, names of the files
PLACES = {
    "version 2, container": ("", "0::/\n", memory._V2),
    "version 2, own group": ("user.slice/job 7/", V2_PATH, memory._V2),
    "version 2, group above": ("user.slice/", V2_PATH, memory._V2),
    "version 1, container": ("memory/", V1_PATH, memory._V1),
    "version 1, own group": ("memory/docker/1234/", V1_PATH, memory._V1),
    "version 1, group above": ("memory/docker/", V1_PATH, memory._V1),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_container_of_2_gb_on_a_machine_of_24(place, machine):
    folder, own_groups, (limit, used, cache) = PLACES[place]
    files = {limit: 2 * GIB, used: GIB, "memory.stat": f"anon 5\n{cache} {GIB // 4}\nfile 7\n"}
    machine(own_groups, **{folder + name: text for name, text in files.items()})
    assert free_memory(CPU) == 1.25 * GIB
    assert automatic_budget(CPU) == GIB // 2


@pytest.mark.parametrize(
    ("limit", "place"), [("max", "version 2, container"), (NOT_LIMITED, "version 1, container")]
)
def test_a_container_without_a_limit(limit, place, machine):
    folder, own_groups, names = PLACES[place]
    machine(own_groups, **{folder + names[0]: limit, folder + names[1]: GIB})
    assert free_memory(CPU) == 24 * GIB


@pytest.mark.parametrize("used", [2 * GIB, 3 * GIB])
def test_no_memory_left_means_the_least_budget(used, machine):
    machine("0::/\n", **{"memory.max": 2 * GIB, "memory.current": used})
    assert free_memory(CPU) == 0
    assert automatic_budget(CPU) == 16 << 20
    clip_model = small_clip()
    tokens = class_tokens(clip_model, NAMES, 2)
    assert FrozenTextEncoder(clip_model)(torch.zeros(1, 2, 64), tokens).shape == (1, 5, 24)


@pytest.mark.parametrize("meminfo", [None, "", "MemTotal: 5 kB\n", "MemAvailable: much\n", "?\n"])
def test_systems_that_do_not_say_what_is_free(meminfo, machine, monkeypatch):
    machine(meminfo=meminfo)
    pages = {"SC_PHYS_PAGES": 1 << 21, "SC_PAGE_SIZE": 1 << 12}
    monkeypatch.setattr(os, "sysconf", pages.get)
    assert free_memory(CPU) == 4 * GIB  # macOS: half of all there is
    monkeypatch.delattr(os, "sysconf")
    assert free_memory(CPU) == 8 * GIB  # Windows


def test_a_gpu_has_what_the_driver_and_the_cache_of_torch_hold(monkeypatch):
    gpu = SimpleNamespace(memory_reserved=lambda d: 5, memory_allocated=lambda d: 3,
                          mem_get_info=lambda d: (40, 99))  # fmt: skip
    monkeypatch.setattr(torch, "cuda", gpu)
    assert free_memory(torch.device("cuda")) == 42


@pytest.mark.parametrize(
    ("recommended", "left"), [(20 * GIB, 19 * GIB), (90 * GIB, 24 * GIB), (0, 0)]
)
def test_a_mac_has_one_memory_for_both(recommended, left, machine, monkeypatch):
    machine()
    mps = SimpleNamespace(recommended_max_memory=lambda: recommended,
                          current_allocated_memory=lambda: GIB)  # fmt: skip
    monkeypatch.setattr(torch, "mps", mps)
    assert free_memory(torch.device("mps")) == left


def test_chunks_on_a_cpu_give_back_what_they_freed(monkeypatch):
    """Before each of them, in the forward and again in the backward pass."""
    calls = []
    monkeypatch.setattr(memory, "_malloc_trim", lambda: calls.append)
    x = torch.ones(3, requires_grad=True)
    sum(memory.recomputed(lambda part: part.exp(), part).sum() for part in x.split(1)).backward()
    assert calls == [0] * 6 and x.grad is not None and x.grad.allclose(x.exp())
    memory.recomputed(lambda part: part.exp(), torch.ones(3, device="meta"))
    assert len(calls) == 6
    monkeypatch.setattr(memory, "_malloc_trim", lambda: None)  # another C library
    memory.give_back()
