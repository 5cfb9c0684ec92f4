"""Names that two packages want to register, explained."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError


def explain_taken_names(registry: Any, what: str, hint: str) -> None:
    """Make one of Dassl's registries say who has a name that is registered again.

    Args:
        registry: it would raise a KeyError that names neither of the two.
        what: of what, for example "trainer".
        hint: why that happens and what to do.
    """
    register = registry.register
    if getattr(register, "explains", False):
        return

    def explained(obj: Any = None, force: bool = False) -> Any:
        if obj is None:  # used as a decorator

            def decorator(made: Any) -> Any:
                explained(made, force)
                return made

            return decorator
        name = obj.__name__
        if not force and name in registry.registered_names():
            first = registry.get(name).__module__
            raise ConfigError(
                f"the {what} name {name!r} is already taken by {first}, so that "
                f"{obj.__module__} cannot have it. {hint}"
            )
        return register(obj, force=True) if force else register(obj)

    explained.explains = True  # type: ignore[attr-defined]
    registry.register = explained
