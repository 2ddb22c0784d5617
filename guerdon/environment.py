"""What other programs that we start may see of the user's environment."""

from __future__ import annotations

_SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD")


def names_secret(name: str) -> bool:
    """Whether a variable of the environment may hold a secret, by its name.

    >>> names_secret("HF_TOKEN"), names_secret("HTTPS_PROXY")
    (True, False)
    """
    return any(part in name.upper() for part in _SECRETS)
