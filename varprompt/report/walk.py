"""Walking through folders that may hold anything: loops of links, what cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..common.characters import printable


@dataclass
class Walk:
    """Iterates over (folder, names of its files); `problems` says what could not be entered.

    Links to folders elsewhere are followed, each target once; folders are in sorted order.
    """

    root: str
    problems: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[str, list[str]]]:
        top = os.path.abspath(self.root)
        home = os.path.realpath(top)
        stack, entered = [top], {home}
        while stack:
            folder = stack.pop()
            folders, links, files = self._entries(folder)
            for path in links:
                target = os.path.realpath(path)
                if target in entered or os.path.commonpath([target, home]) in (target, home):
                    continue  # is or was entered as itself
                entered.add(target)
                folders.append(path)
            stack += sorted(folders, reverse=True)
            yield folder, files

    def _entries(self, folder: str) -> tuple[list[str], list[str], list[str]]:
        folders: list[str] = []
        links: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        if not entry.is_dir():
                            files.append(entry.name)
                        else:
                            (links if entry.is_symlink() else folders).append(entry.path)
                    except OSError as error:  # a link to itself
                        self._note(entry.path, error)
        except OSError as error:
            self._note(folder, error)
        return folders, links, sorted(files)

    def _note(self, path: str, error: OSError) -> None:
        self.problems.append(f"{printable(path)}: left out, not readable ({error.strerror})")


def folders_in(directory: str) -> tuple[list[str], list[str]]:
    """Names of the visible folders in `directory`, sorted, and what could not be looked at.

    Raises:
        OSError: `directory` cannot be read.
    """
    names, problems = [], []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    names.append(entry.name)
            except OSError as error:
                problems.append(f"{printable(entry.path)} is not readable ({error.strerror})")
    return sorted(names), problems
