"""Thin bridges from reward programs to the libraries that train agents.

``gym.RewardWrapper``, ``gym.VectorRewardWrapper`` and ``sb3.RewardVecEnv`` pay step by
step; import the module of the library that you use.
"""
