"""How rows act: they fill a rollout with the steps of their environments."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from guerdon.agents import normalize
from guerdon.agents.arrays import Masked, shrunk
from guerdon.agents.losses import IMPOSSIBLE, Network
from guerdon.agents.networks import Architecture, Output, Weights
from guerdon.agents.normalize import ObservationScale
from guerdon.agents.optimize import Graph
from guerdon.agents.ppo_config import PPOConfig, device_of
from guerdon.agents.rollout import Final, Rollout, action_noise
from guerdon.envs.arrays import Arrays
from guerdon.envs.tensors import AnyEnv, TensorArrays, TensorEnv

TABLE = 16
"""Fewest observations of a row that are looked at together at a block's end."""


class Acting:
    """The environments of all rows, and what the rows have seen of them.

    Args:
        env: all lanes, row by row.
        config: how long a block is.
        arch: what the networks look like.
        net: the networks.
        weights: theirs, by name; the tensors stay where they are.
        fail: told ``(rows, what)`` when something is not finite.
    """

    def __init__(
        self,
        env: AnyEnv,
        config: PPOConfig,
        arch: Architecture,
        net: Network,
        weights: Weights,
        fail: Callable[[np.ndarray, str], None],
    ) -> None:
        self.config, self._arch, self._net, self._fail = config, arch, net, fail
        self.device = device_of(config)
        self.count = env.num_envs // config.envs
        self.obs_scale: ObservationScale | None = None
        if config.normalize_observation:
            shape = tuple(env.observation_space.shape)
            self.obs_scale = ObservationScale(self.count, shape, self.device)
        self.memory: Tensor | None = None
        """``(R, N, M)`` what recurrent rows remember; None without a memory."""
        if arch.memory:
            self.memory = torch.zeros(
                self.count, config.envs, arch.memory, device=self.device
            )
        self.before = self.memory
        """The same at the beginning of the block."""
        self.environment_seconds = 0.0
        self._furnish(env, weights)

    def _furnish(self, env: AnyEnv, weights: Weights) -> None:
        """What depends on the number of rows and has nothing to keep."""
        self.env, self._weights = env, weights
        self.rollout = Rollout(
            env,
            self.config.steps,
            self._arch,
            self.device,
            scaled=self.config.normalize_observation,
            masked=isinstance(env, Masked),
        )
        low, high = env.action.low, env.action.high
        self._bounds = [torch.tensor(b, device=self.device) for b in (low, high) if b]
        self._forward: Callable[..., Any] = self._say
        if self.config.cuda_graphs:
            self._forward = Graph(self._say)

    def lanes(self, rows: slice) -> slice:
        """The lanes of some rows that lie together."""
        return slice(rows.start * self.config.envs, rows.stop * self.config.envs)

    def collect(self, keys: Sequence[tuple[int, int]], which: Sequence[int]) -> None:
        """Let all rows act for a block.

        Args:
            keys: the distinct (seed, block number) of the rows.
            which: ``(R,)`` the key of each row.
        """
        roll, config = self.rollout, self.config
        roll.begin()
        self.before = None if self.memory is None else self.memory.clone()
        shape = config.steps, config.envs, self._arch.outputs
        with torch.inference_mode():
            noise = action_noise(keys, shape, self._arch.continuous)
            noise = noise[:, list(which)].reshape(roll.policy.shape).to(self.device)
            for t in range(config.steps):
                self._act(t, noise[t])
                began = time.perf_counter()
                self._step(t)
                self.environment_seconds += time.perf_counter() - began
                self._after(t)
            roll.values[-1] = self._speak(config.steps)[1]
        roll.fetch()
        if roll.in_tensors:
            self._find_cut()

    def take(self, arrays: Arrays | TensorArrays, rows: slice) -> None:
        """Begin anew in the lanes of some rows, which have just been reset."""
        roll, lanes = self.rollout, self.lanes(rows)
        roll.stored.obs[-1, lanes] = torch.as_tensor(arrays.obs[lanes])
        roll.stored.prev[-1, lanes] = torch.as_tensor(arrays.first[lanes])
        roll.starts[-1, lanes] = True
        if self.memory is not None:
            self.memory[rows] = 0.0
        with torch.inference_mode():
            self._see(self.config.steps, rows)

    def final_values(self) -> Tensor:
        """Values of successors that a time limit cut, ``(T, L, V)``; else 0."""
        roll, envs = self.rollout, self.config.envs
        result = torch.zeros_like(roll.values[:-1])
        if not roll.finals:
            return result
        lanes = np.concatenate([final.lanes for final in roll.finals])
        steps = np.concatenate([final.step for final in roll.finals])
        rows = lanes // envs
        # Rows have different numbers of them; the network takes a full table.
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=self.count)
        place = np.empty(len(rows), np.int64)
        place[order] = np.arange(len(rows)) - np.repeat(
            np.cumsum(counts) - counts, counts
        )
        # Products of other sizes have other last bits, so the tables are of one size,
        # which does not depend on how many the rows beside have.
        width = max(envs, TABLE)
        obs = torch.cat([final.obs for final in roll.finals])
        states = [final.state for final in roll.finals if final.state is not None]
        for table in range(-(-int(counts.max()) // width)):
            some = np.flatnonzero(place // width == table)
            told = torch.cat(states)[some] if states else None
            at = rows[some], place[some] % width
            values = self._values_of(obs[some], told, at, width)
            result[steps[some], lanes[some]] = values
        return result

    def _values_of(
        self,
        obs: Tensor,
        told: Tensor | None,
        at: tuple[np.ndarray, np.ndarray],
        width: int,
    ) -> Tensor:
        """Values ``(M, V)`` of observations at their places in a table ``(R, width)``.

        Args:
            obs: ``(M, *shape)``.
            told: ``(M, memory)`` after the steps before them.
            at: ``(M,)`` rows and columns.
            width: columns.
        """
        table = obs.new_zeros(self.count, width, *obs.shape[1:])
        table[at] = obs
        state = starts = None
        if told is not None:
            state = told.new_zeros(self.count, width, told.shape[-1])
            state[at] = told
            starts = torch.zeros(
                self.count, width, dtype=torch.bool, device=self.device
            )
        with torch.inference_mode():
            return self._net(self._weights, table, state, starts).values[at]

    def select(self, rows: Sequence[int], weights: Weights) -> None:
        """Go on with some rows, in the order given."""
        envs, last = self.config.envs, self.rollout
        lanes = (np.array(rows)[:, None] * envs + np.arange(envs)).reshape(-1)
        self.count = len(rows)
        if self.obs_scale is not None:
            normalize.select(self.obs_scale.state, rows)
        if self.memory is not None:
            self.memory = self.memory[list(rows)]
        if isinstance(self.env, TensorEnv):
            self._furnish(self.env.select(lanes), weights)
        else:
            self._furnish(shrunk(self.env, lanes), weights)
        for name, tensor in self.rollout.carried.items():
            tensor[-1] = last.carried[name][-1][lanes]

    def _speak(self, t: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Policy ``(L, A)``, values ``(L, V)`` and memory at a step of the rollout."""
        roll, lead = self.rollout, (self.count, self.config.envs)
        inputs = [roll.seen[t].view(*lead, *roll.seen.shape[2:])]
        if self.memory is not None:
            inputs += [self.memory, roll.starts[t].view(lead)]
        policy, values, state = self._forward(*inputs)
        return policy.flatten(0, 1), values.flatten(0, 1), state

    def _say(
        self, obs: Tensor, state: Tensor | None = None, starts: Tensor | None = None
    ) -> Output:
        return self._net(self._weights, obs, state, starts)

    def _act(self, t: int, noise: Tensor) -> None:
        roll = self.rollout
        policy, roll.values[t], state = self._speak(t)
        if self.memory is not None and state is not None:
            self.memory.copy_(state)
        if roll.masks is not None:
            policy = policy.masked_fill(~roll.masks[t], IMPOSSIBLE)
        roll.policy[t] = policy
        if not self._arch.continuous:
            chosen = torch.argmax(policy + noise, -1, out=roll.actions[t])
        else:
            std = self._weights["log_std"].exp()
            noise = (noise.view(self.count, -1, noise.shape[-1]) * std).flatten(0, 1)
            chosen = torch.add(policy, noise, out=roll.actions[t])
            if self._bounds:
                chosen = chosen.clamp(*self._bounds)
        if not roll.direct:
            roll.stored.sent[t] = chosen

    def _step(self, t: int) -> None:
        """Let the environments take the step that was chosen."""
        roll = self.rollout
        env: Any = self.env
        out = roll.arrays[t]
        if roll.in_tensors:
            env.step_unchecked(roll.stored.sent[t], out=out)
        else:
            env.step(roll.sent[t], out=out)

    def _after(self, t: int) -> None:
        """Look at what the environments have come to."""
        roll, stored = self.rollout, self.rollout.stored
        roll.starts[t + 1] = stored.truncated[t] | stored.terminated[t]
        self._see(t + 1, slice(0, self.count))
        if roll.in_tensors:
            self._keep(t)
            return
        cut = roll.truncated[t] & ~roll.terminated[t]
        if cut.any():
            lanes = np.flatnonzero(cut)
            obs = stored.final_obs[t, lanes].to(self.device)
            if self.obs_scale is not None:
                obs = self.obs_scale.of_lanes(obs, lanes // self.config.envs)
            state = None if self.memory is None else self.memory.flatten(0, 1)[lanes]
            roll.finals.append(Final(np.full(len(lanes), t), lanes, obs, state))

    def _keep(self, t: int) -> None:
        """Keep all that ``_find_cut`` may ask for of a step."""
        roll = self.rollout
        if self.obs_scale is not None:
            final = roll.stored.final_obs[t]
            final = final.view(self.count, self.config.envs, *final.shape[1:])
            roll.final_seen[t] = self.obs_scale(final).flatten(0, 1)
        if self.memory is not None and roll.final_state is not None:
            roll.final_state[t] = self.memory.flatten(0, 1)

    def _find_cut(self) -> None:
        """Find the steps of the block that a time limit cut, once it is over."""
        roll = self.rollout
        steps, lanes = np.nonzero(roll.truncated & ~roll.terminated)
        if len(steps):
            state = roll.final_state
            state = None if state is None else state[steps, lanes]
            roll.finals = [Final(steps, lanes, roll.final_seen[steps, lanes], state)]

    def _see(self, t: int, rows: slice) -> None:
        """Bring observations of some rows to where the networks look."""
        roll, lanes = self.rollout, self.lanes(rows)
        raw = roll.stored.obs[t, lanes]
        if raw.is_floating_point():
            self._mend(raw.numpy(), rows)
        if self.obs_scale is not None:
            obs = raw.to(self.device).view(-1, self.config.envs, *raw.shape[1:])
            self.obs_scale.update(obs, rows)
            roll.seen[t, lanes] = self.obs_scale(obs, rows).flatten(0, 1)
        elif not roll.shared:
            roll.seen[t, lanes] = raw
        if roll.masks is not None and isinstance(self.env, Masked):
            masks = self.env.action_masks()[lanes]
            roll.masks[t, lanes] = torch.as_tensor(masks).to(self.device)

    def _mend(self, raw: np.ndarray, rows: slice) -> None:
        """Fail rows with observations that are not finite, and write zeros there."""
        if np.isfinite(raw).all():
            return
        bad = ~np.isfinite(raw).reshape(rows.stop - rows.start, -1).all(1)
        self._fail(np.flatnonzero(bad) + rows.start, "an observation")
        np.nan_to_num(raw, copy=False, posinf=0.0, neginf=0.0)
