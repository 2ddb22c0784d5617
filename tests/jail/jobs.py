"""What the tests run inside the jail."""

from __future__ import annotations

from typing import Any


def run_text(payload: str) -> Any:
    """Jailed: ``exec`` of the payload, whose ``answer`` comes out."""

    def job(progress: Any) -> list[bytes]:
        scope: dict[str, Any] = {"progress": progress}
        exec(payload, scope)
        return [str(scope.get("answer")).encode()]

    return job
