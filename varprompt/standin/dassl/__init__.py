"""Stand-in for Dassl: the part of its 0.6.3 API that CoOp-style trainers use, on current torch."""

__version__ = "0.6.3+varprompt"
