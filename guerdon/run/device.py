"""Whether trainings can be on a device here, asked before anything is paid for."""

from __future__ import annotations

from guerdon.envs.task import Task


def require_device(task: Task, device: str, executor: str = "local") -> None:
    """Refuse a GPU that no training of this task could use.

    Args:
        task: what is to be trained.
        device: ``cpu`` or ``cuda``.
        executor: where trainings run.

    Raises:
        ValueError: for a task without the batched engine, no GPU, or an executor that
            lends none; says what to do.
        guerdon.extras.MissingExtra: names what is not installed.
    """
    if device == "cpu":
        return
    if executor != "local":
        raise ValueError(
            f"device: the executor {executor!r} asks its cluster for no GPU; expected "
            "executor 'local', or device 'cpu'"
        )
    try:
        task.engine_on(device).require_device(device)
    except RuntimeError as error:
        raise ValueError(f"{error}. --device cpu trains without one") from None
