"""True scores that several tasks share."""

from __future__ import annotations

from guerdon.types import Episode


def episode_return(episode: Episode) -> float:
    """Sum of the environment's own rewards, undiscounted."""
    return float(episode.reward.sum())


def episode_length(episode: Episode) -> float:
    """Number of steps."""
    return float(episode.length)


def positive_return(episode: Episode) -> bool:
    """Whether the environment's own rewards add up to more than 0."""
    return episode_return(episode) > 0.0


def full_length(episode: Episode) -> bool:
    """Whether the episode ran to its time limit without ending the task."""
    return episode.truncated and not episode.terminated
