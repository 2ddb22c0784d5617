"""The batched grid engine: MiniGrid's levels, N at a time, without Python objects.

Import what you need from its modules: ``engine.GridEngine``, ``vector.GridEnv`` and
``vector.GridVectorEnv``. They load numba, so nothing is imported here.
"""
