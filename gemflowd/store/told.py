"""What was told: the lines that tasks have logged, and the events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw
import msgpack

from gemflowd.model.refs import FlowRef, Ref
from gemflowd.model.states import FlowState
from gemflowd.model.task import shown_id
from gemflowd.store.finding import Named, flow_row, one_task
from gemflowd.store.sqlite import flow_from

Body = dict[str, Any]
#: Log lines that one question about a flow looks at.
_MOST_LINES: Final = 20_000
#: Stored events that one question looks at, about; each turn's are looked at as a whole.
_MOST_EVENTS: Final = 20_000


def logs(db: apsw.Connection, named: Named, ref: Ref, after: int, limit: int) -> Body:
    """Lines of the log of a task or a flow, behind one."""
    if isinstance(ref, FlowRef):
        return _flow_logs(db, named, ref, after, limit)
    task = one_task(db, named, ref)
    rows = list(db.execute(named["logs"], (task.number, after, limit)))
    lines = [
        {"seq": seq, "at": at, "attempt": attempt, "stream": stream, "text": text}
        for seq, at, attempt, stream, text in rows
    ]
    ended = task.state.terminal and len(rows) < limit
    return {"lines": lines, "next": rows[-1][0] if rows else after, "ended": ended, "task": task.number}


def _flow_logs(db: apsw.Connection, named: Named, ref: FlowRef, after: int, limit: int) -> Body:
    """Those of all its tasks, as they came. `next` says how far was looked."""
    flow = flow_from(flow_row(db, named, ref.number, "ref"))
    lines: list[Body] = []
    looked = 0
    rows = db.execute(named["logs_from"], (after, _MOST_LINES))
    for seq, at, attempt, stream, text, task, its, name, flags in rows:
        looked += 1
        after = seq
        if its == flow.number:
            line = {"seq": seq, "at": at, "attempt": attempt, "stream": stream, "text": text}
            lines.append({**line, "task": task, "id": shown_id(name, flags)})
            if len(lines) == limit:
                break
    ended = flow.state not in (FlowState.OPEN, FlowState.ACTIVE) and looked < _MOST_LINES and len(lines) < limit
    return {"lines": lines, "next": after, "ended": ended, "task": None}


def events(db: apsw.Connection, named: Named, start: int, topics: Sequence[str], limit: int) -> Body:
    """Stored events from a number on. `topics` are prefixes. `next` says how far was looked."""
    found: list[Body] = []
    prefixes = tuple(topics)
    first_kept, newest = next(iter(db.execute(named["kept_events"])))
    missed = _missed(db, start, prefixes) if first_kept > start else {}
    following, looked = max(start, first_kept), 0
    for first, last, at, blob in db.execute(named["events_from"], (following,)):
        for index, (topic, fields) in enumerate(msgpack.unpackb(blob, strict_map_key=False)):
            seq = first + index
            if seq < start or (prefixes and not topic.startswith(prefixes)):
                continue
            if len(found) == limit:
                return {"events": found, "next": seq, "first_kept": first_kept, **missed}
            found.append({"seq": seq, "at": at, "topic": topic, **fields})
        following = last + 1
        looked += last - first + 1
        if looked >= _MOST_EVENTS:
            break
    return {"events": found, "next": min(following, newest + 1), "first_kept": first_kept, **missed}


def _missed(db: apsw.Connection, start: int, prefixes: tuple[str, ...]) -> Body:
    """What was there from `start` on and is kept no longer. The counts that are stored with the first events that are kept,
    less those events, are those of all that came before."""
    row = next(iter(db.execute("SELECT first, events, ordinals FROM event ORDER BY first LIMIT 1")))
    first, events, ordinals = row[0], msgpack.unpackb(row[1], strict_map_key=False), msgpack.unpackb(row[2])
    for topic, _ in events:
        ordinals[topic] -= 1
    topics = {
        topic: count for topic, count in ordinals.items() if count and (not prefixes or topic.startswith(prefixes))
    }
    return {"missed": {"first": start, "last": first - 1, "topics": topics}}
