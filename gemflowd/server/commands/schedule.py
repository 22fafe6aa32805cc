"""`schedule_add` and what else is done to schedules. The calendar is read by the engine, the task is checked here, as in `submit`."""

from __future__ import annotations

from typing import Final

from gemflowd.model import facts
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply
from gemflowd.model.ids import is_task_id
from gemflowd.model.schedule import MISFIRES, MOST_MADE_UP, OVERLAPS
from gemflowd.protocol import messages
from gemflowd.protocol.codec import pack
from gemflowd.server.desk import Body, Desk
from gemflowd.server.new_task import read_alone

#: Each run is a flow of its own that starts when it is due.
#: Bytes of a schedule's task: every run makes a copy of them.
_MOST_BYTES: Final = 1024 * 1024
_WITHOUT: Final = ("deps", "when", "delay", "run_at", "expires", "key", "key_ttl", "key_conflict")


def add(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.ScheduleAdd, body)
    _check_name(request.name)
    for field, value, words in (("misfire", request.misfire, MISFIRES), ("overlap", request.overlap, OVERLAPS)):
        if value not in words:
            raise Invalid("invalid_value", f"must be one of {', '.join(words)}", field)
    if not 1 <= request.misfire_limit <= MOST_MADE_UP:
        raise Invalid("invalid_value", f"must be from 1 to {MOST_MADE_UP}", "misfire_limit")
    task = read_alone(desk, request.task, "task", _WITHOUT)
    if len(task.body) > _MOST_BYTES:
        raise Invalid(
            "too_large", f"a schedule's task has at most {_MOST_BYTES} bytes of data: each run stores them", "task.data"
        )
    desk.post(
        facts.AddSchedule(
            reply,
            request.name,
            request.cron,
            request.zone,
            request.misfire,
            request.misfire_limit,
            request.overlap,
            request.paused,
            request.replace,
            task,
            pack(request.task),
        )
    )


async def list_all(desk: Desk, body: Body, reply: Reply) -> None:
    messages.read(messages.Body, body)
    reply(await desk.ask(desk.questions.schedules))


async def show(desk: Desk, body: Body, reply: Reply) -> None:
    reply(await desk.ask(desk.questions.schedule, _name(body)))


def pause(desk: Desk, body: Body, reply: Reply) -> None:
    desk.post(facts.PauseSchedule(reply, _name(body), paused=True))


def resume(desk: Desk, body: Body, reply: Reply) -> None:
    desk.post(facts.PauseSchedule(reply, _name(body), paused=False))


def remove(desk: Desk, body: Body, reply: Reply) -> None:
    desk.post(facts.RemoveSchedule(reply, _name(body)))


def _name(body: Body) -> str:
    name = messages.read(messages.ScheduleName, body).name
    _check_name(name)
    return name


def _check_name(name: str) -> None:
    if not is_task_id(name):
        raise Invalid("invalid_value", "a schedule's name has 1 to 128 letters, digits, '_', '.' or '-'", "name")
