"""`explain`: why a task is not running. What is stored tells most; the workers and the daemon's own state tell the rest."""

from __future__ import annotations

from gemflowd.model import refs
from gemflowd.model.errors import Refused
from gemflowd.model.facts import AskLimits, Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Show, body)
    answer = await desk.ask(
        desk.questions.explain,
        refs.parse(request.ref, "ref"),
        dict(desk.configuration.resources()),
        desk.free_devices(),
    )
    kind, bucket, priority, size = (answer.pop(name) for name in ("kind", "bucket", "priority", "size"))
    if answer["state"] == "ready":
        if bucket is not None:
            answer["reasons"] += await _of_its_limit(desk, bucket, priority, size)
        answer["reasons"] = [*answer["reasons"], *_of_the_daemon(desk, kind)]
        if not answer["reasons"]:
            answer["reasons"] = [{"code": "starting", "message": "nothing stands in its way; it starts within moments"}]
        # How many are ahead says when its turn comes, and is no obstacle of its own where another one is named.
        answer["reasons"].sort(key=lambda reason: reason["code"] == "behind")
    answer["runnable"] = answer["state"] == "running" or {reason["code"] for reason in answer["reasons"]} <= {
        "behind",
        "starting",
    }
    reply(answer)


async def _of_its_limit(desk: Desk, bucket: str, priority: int, size: int) -> list[Body]:
    """The engine alone knows what is used of a limit. One that nothing was started of yet keeps nobody."""
    try:
        answer = await desk.decide(lambda told: AskLimits(told, bucket, priority, size))
    except Refused:
        return []
    return list(answer["reasons"])


def _of_the_daemon(desk: Desk, kind: str) -> list[Body]:
    found: list[Body] = []
    identity = desk.identity()
    if identity["state"] == "draining":
        found.append({"code": "draining", "message": "the daemon is stopping and starts nothing more"})
    elif identity["drain"]:
        found.append({"code": "drain", "message": "nothing is started until `drain --off`"})
    if not any(worker["kind"] == kind and worker["state"] in ("idle", "busy") for worker in desk.workers()):
        found.append({"code": "no_worker", "kind": kind, "message": f"there is no {kind} worker; see `workers`"})
    if kind == "blocking" and desk.memory_tight():
        message = (
            "all workers together have the memory that they may have; the next starts when one has given some back"
        )
        found.append({"code": "memory", "message": message})
    if not desk.configuration.enabled():
        message = "parallel execution is disabled: one task at a time, in order"
        found.append({"code": "sequential", "message": message})
    return found
