"""What handles of tasks and flows know by themselves. Pure; what they do is in `client.py` and `aio.py`."""

from __future__ import annotations

from gemflowctl.errors import InvalidInput
from gemflowctl.steps import Body


class BaseTask:
    """A task's numbers."""

    def __init__(self, number: int, flow: int, id: str | int | None) -> None:  # noqa: A002
        self.number = number
        self.flow = flow
        self.id = id

    @property
    def ref(self) -> str:
        """The reference, for any method that takes one, and for `deps`."""
        return str(self.number)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number} of f{self.flow}>"


class BaseFlow:
    """What the daemon said when it had received the flow."""

    def __init__(self, reply: Body) -> None:
        self.number: int = reply["flow"]
        self.submission: str = reply["submission"]
        self.count: int = reply["count"]
        #: Whether the daemon had it already.
        self.repeated: bool = bool(reply.get("repeated"))
        #: Whether nothing was submitted because another task has the unique key; then this is that task's flow.
        self.key_taken: bool = reply.get("key") == "returned"
        #: The whole reply.
        self.reply = reply

    @property
    def ref(self) -> str:
        """The reference, for any method that takes one."""
        return f"f{self.number}"

    def task_ref(self, id: str | int) -> str:  # noqa: A002
        """The reference of one of its tasks, by its id."""
        return f"{self.ref}/{id}"

    def first_number(self) -> int:
        """The number of its first task.

        Raises:
            InvalidInput: it came in chunks, or was known before, so that the daemon did not say.
        """
        first = self.reply.get("first")
        if not isinstance(first, int):
            raise InvalidInput(f"the daemon did not say which tasks {self.ref} has; ask `list` for them")
        return first

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ref}, {self.count} tasks>"
