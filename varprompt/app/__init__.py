"""A page on this machine: drop photos, see what a model says, change the classes, see it again."""
