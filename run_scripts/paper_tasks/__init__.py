from .base import TASKS, Task


__all__ = ["TASKS", "Task"]
