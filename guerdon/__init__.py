"""Guerdon: the workbench for reward design on Gymnasium."""

__version__ = "0.1.0"
