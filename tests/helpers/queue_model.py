"""What a queue may do, written down a second time and from the outside: a model that follows the stored events.

It knows the tables of docs/semantics.md ("States") in its own words and shares no code with the daemon's decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from helpers.store_contents import Contents

from gemflowd.model.task import LINKING

ENDED = frozenset({"succeeded", "failed", "cancelled", "skipped", "quarantined"})

#: From which state a task may come to which; None: it was just submitted.
STEPS: dict[str | None, frozenset[str]] = {
    None: frozenset({"blocked", "scheduled", "ready", "held"}),
    "blocked": frozenset({"ready", "scheduled", "held", "skipped", "cancelled"}),
    "scheduled": frozenset({"ready", "held", "skipped", "cancelled"}),
    "ready": frozenset({"running", "scheduled", "held", "skipped", "cancelled"}),
    "held": frozenset({"ready", "blocked", "scheduled", "skipped", "cancelled"}),
    "running": frozenset({"succeeded", "failed", "cancelled", "quarantined", "ready", "scheduled", "held", "blocked"}),
    **{state: frozenset({"ready", "blocked"}) for state in ENDED},
}

#: What a dependency may have ended as.
WANTED: dict[str, frozenset[str]] = {
    "success": frozenset({"succeeded"}),
    "failure": frozenset({"failed", "quarantined"}),
    "done": ENDED,
}


@dataclass(slots=True)
class Seen:
    """A task's history by its events."""

    states: list[tuple[int, str]] = field(default_factory=list)  # (event, state)
    deps: list[tuple[int, str]] | None = None  # (parent, on); None: the submitter does not know yet which task it is
    entered: int = 0  # event of its submission or of its latest retry
    checked: int = 0  # states that were judged
    of_its_own: bool = False  # it may be skipped for other reasons than its dependencies

    @property
    def state(self) -> str | None:
        return self.states[-1][1] if self.states else None


class QueueModel:
    def __init__(self) -> None:
        self.tasks: dict[int, Seen] = {}
        self.last_event = 0
        self.topics: dict[str, int] = {}

    def known(self, number: int, deps: list[tuple[int, str]], *, of_its_own: bool = False) -> None:
        """A submission was acknowledged: this is one of its tasks, and what it waits for."""
        task = self.tasks.setdefault(number, Seen())
        task.deps, task.of_its_own = deps, of_its_own

    def forget(self, number: int) -> None:
        """Its flow was discarded before it was complete."""
        self.tasks.pop(number, None)

    def follow(self, found: Contents, may_retry: bool) -> None:
        """Take what was stored since the last time."""
        for batch in found.events:
            if batch.first <= self.last_event:
                continue
            assert batch.first == self.last_event + 1
            for index, (topic, fields) in enumerate(batch.events):
                self.topics[topic] = self.topics.get(topic, 0) + 1
                if topic.startswith("task."):
                    self._step(fields["task"], topic.removeprefix("task."), batch.first + index, may_retry)
                    if fields.get("reason", "").endswith("was deleted"):
                        self.tasks[fields["task"]].of_its_own = True
            assert batch.last == batch.first + len(batch.events) - 1
            assert batch.ordinals == self.topics
            self.last_event = batch.last
        for number, task in self.tasks.items():
            self._judge(number, task)

    def _step(self, number: int, state: str, event: int, may_retry: bool) -> None:
        task = self.tasks.setdefault(number, Seen())
        assert state in STEPS[task.state], f"task {number}: {task.state} -> {state}"
        if task.state in ENDED:
            assert may_retry, f"task {number}: {task.state} -> {state}, and nobody asked for a retry"
        task.states.append((event, state))

    def _judge(self, number: int, task: Seen) -> None:
        """Whether it started, or was skipped, with reason."""
        if task.deps is None:
            return
        for place in range(task.checked, len(task.states)):
            event, state = task.states[place]
            if place == 0 or task.states[place - 1][1] in ENDED:
                task.entered = event
            if state == "running":
                for parent, on in task.deps:
                    assert self._ends(parent, task.entered, event) & WANTED[on], (
                        f"task {number} started at {event}; it waits for {on} of {parent}: {self.tasks[parent].states}"
                    )
            elif state == "skipped" and not task.of_its_own:
                assert any(self._ends(parent, task.entered, event) - WANTED[on] for parent, on in task.deps), (
                    f"task {number} was skipped at {event} without a reason: {task.deps}"
                )
        task.checked = len(task.states)

    def _ends(self, number: int, after: int, before: int) -> set[str]:
        """How a task had ended at one event, and how it ended from there on until another."""
        states = self.tasks[number].states
        earlier = [state for event, state in states if event < after][-1:]
        later = [state for event, state in states if after <= event < before]
        return {state for state in earlier + later if state in ENDED}

    def compare(self, found: Contents) -> None:
        """What is stored is what the events told."""
        stored = {number: task.state.word for number, task in found.tasks.items()}
        told = {number: task.state for number, task in self.tasks.items() if number in stored}
        assert told == stored
        for number, task in found.tasks.items():
            deps = self.tasks[number].deps
            if deps is not None:
                edges = {(parent, on.word) for parent, child, on, _ in found.edges if child == number}
                waited = {edge for edge in edges - set(deps) if self._was_added(found, number, *edge)}
                edges -= waited
                if not (task.flags & LINKING or number in found.going):
                    # Of very many those that were gone (or not there yet) when it was taken apart have none.
                    assert edges == set(deps) or (task.state.terminal and edges < set(deps)), f"task {number}"
                assert task.inputs == len(deps) + len(waited)

    @staticmethod
    def _was_added(found: Contents, number: int, parent: int, on: str) -> bool:
        """Whether an attempt may have waited for that one: it is deeper in the same flow, so some task has added it."""
        task, other = found.tasks[number], found.tasks.get(parent)
        return on == "done" and other is not None and other.flow == task.flow and other.depth > task.depth
