"""Agents: they learn from a designed reward and are judged by the true score."""
