"""Which Dassl is in use, and the built-in stand-in for it."""
