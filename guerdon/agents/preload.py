"""Imported once by the server that workers are forked from, so that they start warm."""

import gc

import guerdon.agents.sb3

__all__ = ["guerdon"]

# Objects that the collector never visits again keep their memory shared after a fork.
gc.collect()
gc.freeze()
