"""Whether rewards in full Python may run here, and what the user must be told."""

from __future__ import annotations

from guerdon.agents.training import Trust, require_known
from guerdon.jail import missing

UNSAFE = (
    "trust none: text that a language model wrote runs as a program of your own, with "
    "your files, your network and your rights. It can read your keys, change this run "
    "and delete what you can delete. Use --trust jail, or a machine that you can lose"
)
"""What ``--trust none`` means; shown every time."""


def require_enforced(trust: Trust) -> None:
    """Refuse to begin what could only fail, or leak, later.

    Raises:
        ValueError: for an unknown trust; for the jail where a layer of it is missing:
            names the layer and what brings it.
    """
    require_known(trust)
    absent = missing() if trust == "jail" else []
    if absent:
        layers = "; ".join(f"{one.name} ({one.detail}): {one.fix}" for one in absent)
        raise ValueError(
            f"trust jail: this machine does not enforce {layers}. Rewards in the "
            "language need no jail (--trust language); guerdon doctor shows all layers"
        )
