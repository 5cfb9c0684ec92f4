"""What people outside of this repository write: importing it registers all of it."""

from . import posterior, trainer  # noqa: F401
