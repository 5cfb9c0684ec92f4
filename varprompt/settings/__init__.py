"""From a yacs tree and a command line to validated objects."""
