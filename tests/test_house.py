"""Which part of the library may import which: never a higher floor, never in a circle.

Imports inside functions count, too: they hide a direction, they do not change it.
"""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks._report import environment

ROOT = Path(__file__).resolve().parent.parent
BROAD = re.compile(r"except (Exception|BaseException)( as \w+)?:.*\n\s*(?P<then>.*)")
FLOORS = (  # a part may import those of its own floor and of the floors before it
    {"errors", "common"},
    {"ops", "towers", "images"},
    {
        "posteriors",
        "prompt",
        "prompt_texts",
        "deep",
        "start",
        "objective",
        "regularisers",
        "config",
        "config_problems",
        "class_prior",
        "class_prompts",
        "class_words",
    },
    {"predictor"},
    {"model", "learner_state", "layouts"},
    {"uncertainty"},
    {"classifier", "run"},
    {"settings"},
    {"report", "trained"},
    {"predict", "export", "interpret", "app"},
    {"commands"},
    {"sweep"},
    {"__main__"},
)
BASICS = FLOORS[0]
LEAVES = {  # outside the floors: what they may import, and who may import them
    "embedded": (BASICS, {"towers"}),
    "standin": (BASICS | {"images", "run"}, {"settings", "commands", "trained"}),
}
OLD_PATHS = {"clip_io", "posterior"}  # pass on names under their old path; nobody here imports them
UPWARDS = {  # the exceptions, inside a function each
    ("config", "settings"): "varprompt.config.extend_cfg is an old path that users hold",
}
NEVER = {  # also where the floors would allow it
    ("run", "towers"): "a run knows no CLIP",
    ("uncertainty", "towers"): "it takes log-probabilities",
    ("uncertainty", "model"): "of whatever classifier",
    ("towers", "images"): "a CLIP takes tensors",
    ("images", "towers"): "images are encoded by a function that is given",
}
LAYERS = {  # above the library
    "trainers", "datasets", "tools", "train", "report", "parse_test_res", "predict",
}  # fmt: skip


def imported(file):
    """(name of the module or of what is taken from it, whether at the top) for each import."""
    package = file.relative_to(ROOT).parent.parts
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            yield name, node.col_offset == 0


def part_of(file):
    """The part of the library that a file belongs to; None for the library's own __init__.py."""
    name = file.relative_to(ROOT / "varprompt").parts[0].removesuffix(".py")
    return None if name == "__init__" else name


PARTS = {part_of(file) for file in (ROOT / "varprompt").rglob("*.py")} - {None}
IMPORTS = sorted(
    (part_of(file), name, file, top)
    for file in (ROOT / "varprompt").rglob("*.py")
    if part_of(file) and part_of(file) not in OLD_PATHS
    for name, top in imported(file)
)
EDGES = {  # (part, part it imports) -> the files that do so, and whether at their top
    (part, name.split(".")[1]): [
        (str(file.relative_to(ROOT)), top)
        for other, theirs, file, top in IMPORTS
        if (other, theirs.split(".")[:2]) == (part, name.split(".")[:2])
    ]
    for part, name, _, _ in IMPORTS
    if name.startswith("varprompt.") and name.split(".")[1] in PARTS - {part}
}


def floor(part):
    return next(number for number, parts in enumerate(FLOORS) if part in parts)


def test_every_part_has_its_place():
    placed = set().union(*FLOORS) | LEAVES.keys() | OLD_PATHS
    without_code = {"data"}
    assert PARTS - placed - without_code == set()


def test_test_files_have_names_of_their_own():
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []  # pytest imports one of them


@pytest.mark.parametrize("edge", sorted(EDGES), ids=" -> ".join)
def test_no_import_goes_up(edge):
    part, other = edge
    files = [file for file, _ in EDGES[edge]]
    if edge in UPWARDS:
        assert not any(top for _, top in EDGES[edge]), files
        return
    assert edge not in NEVER, (NEVER.get(edge), files)
    assert other not in OLD_PATHS, files
    if part in LEAVES:
        assert other in LEAVES[part][0], files
    elif other in LEAVES:
        assert part in LEAVES[other][1], files
        assert not any(top for _, top in EDGES[edge]), files  # only when it is needed
    else:
        assert floor(other) <= floor(part), files


def test_no_circle():
    """Parts can be put in a line in which each imports only those before it."""
    left, edges = set(PARTS), set(EDGES) - UPWARDS.keys()
    while free := {p for p in left if not any(a == p and b in left for a, b in edges)}:
        left -= free
    assert not left, {edge: EDGES[edge] for edge in edges if left.issuperset(edge)}


def test_the_library_does_not_know_what_is_above_it():
    above = [(str(f.relative_to(ROOT)), name) for _, name, f, _ in IMPORTS
             if name.split(".")[0] in LAYERS]  # fmt: skip
    assert above == []


def test_only_settings_and_the_command_line_know_dassl_and_yacs():
    know = {part for part, name, _, _ in IMPORTS if name.split(".")[0] in ("dassl", "yacs")}
    assert know <= {"settings", "standin", "commands"}


def test_exceptions_are_needed():
    assert UPWARDS.keys() <= EDGES.keys() and not NEVER.keys() & UPWARDS.keys()


def test_a_full_memory_is_taken_for_nothing_else():
    """Who catches everything that a damaged file may raise passes that on."""
    broad = 0
    for folder in ("varprompt", "trainers", "datasets", "tools"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            text = file.read_text()
            for found in BROAD.finditer(text):
                broad += 1
                before = text[: found.start()].rstrip().rpartition("except ")[2]
                passed = found["then"].startswith(("pass_on_memory(", "raise", "if disk_failed("))
                passed |= before.startswith("MemoryError:\n")
                cleaning = re.search(r"\n +raise\n", text[found.start() : found.start() + 400])
                assert passed or cleaning or file.name == "console.py", f"{file}: {found[0]}"
    assert broad > 8


def test_no_result_names_a_path_of_a_machine(monkeypatch):
    argv = ["a.py", "--data", "/elsewhere/data", "--output", str(ROOT / "x/y.json"), "-L"]
    monkeypatch.setattr("sys.argv", argv)
    said = environment(torch.device("cpu"))["command"]
    assert said.endswith(" --data data --output x/y.json -L")
    for file in (ROOT / "benchmarks/results").glob("*.json"):
        command = re.search(r'"command": "([^"]*)"', file.read_text())
        assert not (command and re.search(r"(^|[ =])/", command[1])), file
