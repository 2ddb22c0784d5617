"""Hand-made dense rewards of the MiniGrid levels, in the reward language.

They are what a person usually writes first: progress in Manhattan distance to the
next thing, a bonus for every event, a small cost of time, and 1 at the goal. Nothing
in them stops an agent from dropping and picking up a key for ever; that is the point
of comparing with them.
"""

from __future__ import annotations

from guerdon.envs.task import ReferenceReward

_ORIGIN = (
    "the usual hand-made dense reward, written for Guerdon: 0.05 a cell of progress "
    "to the next thing, a bonus for each event, -0.001 a step, 1 at the goal"
)

_REACH = """\
PARAMS = {"cell": 0.05, "step": 0.001}

def reward(prev, action, now, params):
    return {
        "approach_goal": params.cell * (prev.distance_to_goal - now.distance_to_goal),
        "time": -params.step,
        "goal": where(now.at_goal and not prev.at_goal, 1.0, 0.0),
    }
"""

_LAVA = """\
PARAMS = {"cell": 0.05, "step": 0.001, "lava": 1.0}

def reward(prev, action, now, params):
    return {
        "approach_goal": params.cell * (prev.distance_to_goal - now.distance_to_goal),
        "lava": where(now.on_lava, -params.lava, 0.0),
        "time": -params.step,
        "goal": where(now.at_goal and not prev.at_goal, 1.0, 0.0),
    }
"""

_ROOMS = """\
PARAMS = {"cell": 0.05, "step": 0.001, "door": 0.3}

def reward(prev, action, now, params):
    same_door = now.doors_open == prev.doors_open and not now.all_doors_open
    to_door = params.cell * (prev.distance_to_door - now.distance_to_door)
    to_goal = params.cell * (prev.distance_to_goal - now.distance_to_goal)
    return {
        "approach_door": where(same_door, to_door, 0.0),
        "open_door": where(now.doors_open > prev.doors_open, params.door, 0.0),
        "approach_goal": where(prev.all_doors_open, to_goal, 0.0),
        "time": -params.step,
        "goal": where(now.at_goal and not prev.at_goal, 1.0, 0.0),
    }
"""

_KEY = """\
PARAMS = {"cell": 0.05, "step": 0.001, "pickup": 0.3, "unlock": 0.5}

def reward(prev, action, now, params):
    seeking = not prev.carrying_key and not now.carrying_key and not now.door_unlocked
    bringing = prev.carrying_key and now.carrying_key and not now.door_unlocked
    unlocked = now.door_unlocked and not prev.door_unlocked
    to_key = params.cell * (prev.distance_to_key - now.distance_to_key)
    to_door = params.cell * (prev.distance_to_door - now.distance_to_door)
    to_@ = params.cell * (prev.distance_to_@ - now.distance_to_@)
    return {
        "approach_key": where(seeking, to_key, 0.0),
        "pickup": where(now.carrying_key and not prev.carrying_key, params.pickup, 0.0),
        "approach_door": where(bringing, to_door, 0.0),
        "unlock": where(unlocked, params.unlock, 0.0),
        "approach_@": where(prev.door_unlocked, to_@, 0.0),
        "time": -params.step,
        "goal": where(now.# and not prev.#, 1.0, 0.0),
    }
"""

HUMAN = {
    "reach": ReferenceReward(_REACH, _ORIGIN),
    "lava": ReferenceReward(_LAVA, _ORIGIN + ", -1 in lava"),
    "rooms": ReferenceReward(_ROOMS, _ORIGIN),
    "key": ReferenceReward(_KEY.replace("@", "goal").replace("#", "at_goal"), _ORIGIN),
    "pickup": ReferenceReward(
        _KEY.replace("@", "target").replace("#", "carrying_target"), _ORIGIN
    ),
}
"""By kind of level."""
