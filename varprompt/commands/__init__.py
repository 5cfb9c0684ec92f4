"""Commands that have no folder of their own: train, demo, own, convert, cost."""
