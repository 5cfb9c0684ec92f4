"""Names of trainers, datasets, evaluators."""

from __future__ import annotations

from typing import Any


class Registry:
    """Maps the ``__name__`` of registered objects to the objects."""

    def __init__(self, name: str):
        self._name = name
        self._objects: dict[str, Any] = {}

    def register(self, obj: Any = None) -> Any:
        """Register `obj`; without it, return a decorator that registers.

        Raises:
            KeyError: the name is taken.
        """
        if obj is None:
            return self._add
        self._add(obj)
        return None

    def get(self, name: str) -> Any:
        """The object called `name`.

        Raises:
            KeyError: there is none.
        """
        if name not in self._objects:
            raise KeyError(f'Object name "{name}" does not exist in "{self._name}" registry')
        return self._objects[name]

    def registered_names(self) -> list[str]:
        """All names, in order of registration."""
        return list(self._objects)

    def _add(self, obj: Any) -> Any:
        name = obj.__name__
        if name in self._objects:
            raise KeyError(
                f'An object named "{name}" was already registered in "{self._name}" registry'
            )
        self._objects[name] = obj
        return obj
