"""Raw: the image as it is. The upper end of every axis; nothing is hidden.

method = Raw(task)
"""

from sfumato.compare.methods.base import Method, Task, Unchanged
from sfumato.compare.methods.draws import Fixed


class Raw(Method):
    """Upload the image; the cloud network trains on."""

    trained = ("cloud",)

    def __init__(self, task: Task) -> None:
        super().__init__(task, phone=Unchanged(), draw=Fixed(), cloud=task.clean_cloud())
