"""`memory_get`, `memory_set`, `memory_delete`, `memory_list`: the shared memory, for clients and for running tasks."""

from __future__ import annotations

import re
from typing import Final

from gemflowd.model import facts
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply, Speaker
from gemflowd.model.ids import MAX_NUMBER
from gemflowd.protocol import messages
from gemflowd.protocol.codec import check_value, pack
from gemflowd.server.desk import Body, Desk

MOST: Final = 1000
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,200}")
_MOST_SECONDS: Final = 10 * 365 * 86_400.0


async def get(desk: Desk, body: Body, reply: Reply, speaker: Speaker | None = None) -> None:
    request = messages.read(messages.MemoryGet, body)
    _check_names(request.namespace, request.key)
    reply(await desk.ask(desk.questions.memory_get, request.namespace, request.key, desk.moment()))


def set_value(desk: Desk, body: Body, reply: Reply, speaker: Speaker | None = None) -> None:
    request = messages.read(messages.MemorySet, body)
    _check_names(request.namespace, request.key)
    _check_version(request.version)
    if request.ttl is not None and not 0.001 <= request.ttl <= _MOST_SECONDS:  # NaN is not between anything
        raise Invalid("invalid_value", f"must be from 0.001 to {_MOST_SECONDS:g}", "ttl")
    check_value(request.value, "value")
    value = pack(request.value)
    fact = facts.SetValue(reply, request.namespace, request.key, value, request.ttl, request.version, speaker)
    desk.post(fact)


def delete(desk: Desk, body: Body, reply: Reply, speaker: Speaker | None = None) -> None:
    request = messages.read(messages.MemoryDelete, body)
    _check_names(request.namespace, request.key)
    _check_version(request.version)
    desk.post(facts.DeleteValue(reply, request.namespace, request.key, request.version, speaker))


async def list_values(desk: Desk, body: Body, reply: Reply, speaker: Speaker | None = None) -> None:
    request = messages.read(messages.MemoryList, body)
    if request.namespaces:
        if set(body) - {"namespaces"}:
            raise Invalid("invalid_value", "the list of namespaces takes nothing else", "namespaces")
        reply(await desk.ask(desk.questions.memory_namespaces, desk.moment()))
        return
    _check_name(request.namespace, "namespace")
    if not 1 <= request.limit <= MOST:
        raise Invalid("invalid_value", f"must be from 1 to {MOST}", "limit")
    for path, text in (("prefix", request.prefix), ("after", request.after)):
        if text:
            _check_name(text, path)
    page = (request.namespace, request.prefix, request.after, request.limit, request.values)
    reply(await desk.ask(desk.questions.memory_list, page, desk.moment()))


def _check_names(namespace: str, key: str) -> None:
    _check_name(namespace, "namespace")
    _check_name(key, "key")


def _check_name(name: str, path: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise Invalid("invalid_value", "must have 1 to 200 characters, and none of them a control character", path)


def _check_version(version: int | None) -> None:
    if version is not None and not 0 <= version <= MAX_NUMBER:
        raise Invalid("invalid_value", "must be a version, or 0 for a key that must not exist", "version")
