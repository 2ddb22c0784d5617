"""Tasks: environments with a true score and named features."""

from guerdon.envs.checker import CheckReport, TaskCheckError, check_task
from guerdon.envs.custom import task_from_env
from guerdon.envs.table import TASKS, UnknownTask, load_task, make, tasks
from guerdon.envs.task import ReferenceReward, Task, TaskEnv

__all__ = [
    "TASKS",
    "CheckReport",
    "ReferenceReward",
    "Task",
    "TaskCheckError",
    "TaskEnv",
    "UnknownTask",
    "check_task",
    "load_task",
    "make",
    "task_from_env",
    "tasks",
]
