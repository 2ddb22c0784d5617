"""Reads a run folder and writes one self-contained page, JSON and PNGs."""

from guerdon.report.build import write_report

__all__ = ["write_report"]
