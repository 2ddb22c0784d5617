"""Reward design: programs of named terms and transforms, and the search for them.

``program`` puts a reward together, ``language`` reads one from text, ``shaping`` holds
the transforms, ``adapters`` pay it in Gymnasium and Stable-Baselines3, ``verify``
checks its laws, and ``search`` looks for a better one.
"""
