"""Queues that are paused, resumed or limited."""

from __future__ import annotations

from gemflowd.engine.rows import Rows
from gemflowd.model.effects import Retract
from gemflowd.model.event import QUEUE_TOPIC, Event
from gemflowd.model.facts import SetQueue
from gemflowd.model.lane import Queue


def set_queue(rows: Rows, fact: SetQueue) -> None:
    """Change a queue; one that nobody has changed before has no row."""
    turn, memory = rows.turn, rows.memory
    queue = turn.queues.get(fact.queue)
    if queue is None:
        running = sum(turn.lanes[task.lane].key.queue == fact.queue for task in memory.running.values())
        queue = turn.queues[fact.queue] = Queue(fact.queue, running=running)
    queue.paused = fact.change.get("paused", queue.paused)
    queue.most = fact.change.get("most", queue.most)
    rows.store.put_queue(queue)
    if queue.paused or queue.most is not None:
        turn.take_back(Retract.ALL)
    else:
        del turn.queues[fact.queue]  # as if nobody had changed it
    body = {"queue": queue.name, "paused": queue.paused, "limit": queue.most}
    turn.events.append(Event(QUEUE_TOPIC, body))
    turn.replies.append((fact.reply, body))
