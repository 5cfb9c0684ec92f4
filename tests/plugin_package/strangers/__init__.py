"""What people outside of this repository write: importing it registers all of it."""

from . import clip_source, posterior, trainer  # noqa: F401
