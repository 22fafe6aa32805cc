"""The task type `gemini.tools`: a conversation in which the model may have tasks carried out. A `gemini` task with `tools` becomes one.

It asks nothing itself. Each question to the model (a hop) is a `gemini` task of the flow, each call of a function a task of type `tool`,
`memory` or `mcp`, so each is durable, metered, retried, cancelled and logged as any other. Between them this task waits for them without
a slot (`Wait`) and goes on from what they have come to. What it has added so far is its note, so an attempt that begins anew, after a
crash too, asks nothing twice. It ends with the final answer, for which its dependents wait.

Does not cover what tools there are (`names`) and what the model is shown (`conversation`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgpack

from gemflowd.handlers.errors import Permanent, RequestRefused, Wait
from gemflowd.handlers.gemini.streaming import Pieces
from gemflowd.handlers.gemini.tools.conversation import answers, beginning, in_form, response
from gemflowd.handlers.gemini.tools.names import Function, functions
from gemflowd.handlers.gemini.tools.schema import MAX_HOPS, SCHEMA
from gemflowd.handlers.registry import task
from gemflowd.model.calls import OF_FORM, misfit, setting_name

if TYPE_CHECKING:
    from gemflowd.worker.context import AsyncContext

#: Tries after the first, of the task of a call: from the third attempt on it says what is wrong instead of failing.
_CALL_RETRIES: Final = 2
#: Calls of one turn that are carried out.
_MOST_CALLS: Final = 64
#: Characters of why a call was refused; bytes of the note, of which the worker takes no more than 64 KiB.
_MOST_WORDS: Final = 200
_MOST_NOTE: Final = 60 * 1024
_OF_TASK: Final = re.compile(r"tasks\[(\d+)\]\.?(.*)")
#: Of a question, what is about the form of its answer.
_OF_FORM: Final = ("schema", "max_reasks")
_NOT_FOR_A_HOP: Final = ("tools", "workspace", "max_hops", "hop", "prompt", "contents", "template", "agent")
_NOT_OF_A_RESULT: Final = ("content", "function_calls", "usage", "cached")


@task("gemini.tools", schema=SCHEMA)
async def gemini_tools(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """Ask a Gemini model that may use tools: each question and each call is a task of the flow.

    Data: as of a `gemini` task, without `files`, and `tools` (`read_file`, …, `memory.get`, …, `mcp:SERVER/TOOL`), `max_hops` (questions
    to the model, 10) and `hop` (`priority`, `queue`, `timeout`, `retries`, `retry_on`, `backoff` of those tasks). Result: that of the
    last `gemini` task, with the usage of all of them, `hops` and `calls`: `[{tool, task}, …]`.

    Raises:
        Permanent: `max_hops`, `hop_failed`, `unknown_tool`, `unknown_server`, `not_supported`, `bad_request`.
        Transient: `mcp_unreachable`.
        Wait: for what it has added.
    """
    if (wrong := misfit(data, vertex=None)) is not None:  # as it is rendered
        raise Permanent(f"`{wrong.field}`: {wrong.message}", code=wrong.code)
    offered = await functions(data["tools"], context.settings, data.get("workspace"))
    conversation = _Conversation(data, offered, context)
    last = await conversation.through()
    if data.get("stream"):  # its own log has the final answer; the pieces came in those of the hops
        pieces = Pieces(context.emit)
        pieces.add(last["text"])
        pieces.flush()
    return {
        **{key: value for key, value in last.items() if key not in _NOT_OF_A_RESULT},
        "usage": conversation.usage,
        "hops": len(conversation.hops),
        "calls": conversation.calls,
    }


def _questions(
    data: Mapping[str, Any], offered: Mapping[str, Function]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What every question of the conversation says, and the last one, which asks for JSON; None: the answer is text.

    Gemini refuses functions beside a form of the answer (all models before Gemini 3), so they are never in one question.
    """
    said = {key: value for key, value in data.items() if key not in _NOT_FOR_A_HOP}
    config = dict(data.get("config") or {})
    names = {key: setting_name(key) for key in config}
    plain = {key: value for key, value in config.items() if names[key] not in OF_FORM}
    plain["tools"] = [{"function_declarations": [function.declaration for function in offered.values()]}]
    hop = {**{key: value for key, value in said.items() if key not in _OF_FORM}, "config": plain}
    form = [config[key] for key in config if names[key] in OF_FORM]
    if data.get("schema") is None and all(it in (None, "", "text/plain") for it in form):
        return hop, None
    return hop, {**said, "config": {key: value for key, value in config.items() if names[key] != "tool_config"}}


class _Conversation:
    """
    Attributes:
        hops: what was added so far, `{ask: number of the task, calls: [number or None, …]}` for each question.
        calls: of functions that were carried out, `{tool, task}`.
    """

    def __init__(self, data: Mapping[str, Any], offered: Mapping[str, Function], context: AsyncContext) -> None:
        self._data = data
        self._hop, self._form = _questions(data, offered)
        self._offered = offered
        self._context = context
        self._terms = dict(data.get("hop") or {})
        noted = context.note if isinstance(context.note, Mapping) else {}
        self.hops: list[dict[str, Any]] = [dict(hop) for hop in noted.get("hops") or ()]
        self.calls: list[dict[str, Any]] = []
        self.usage: dict[str, Any] = {}

    async def through(self) -> dict[str, Any]:
        """The result of the last question. Raises as `gemini_tools`."""
        turns = beginning(self._data)
        most = int(self._data.get("max_hops") or MAX_HOPS)
        for index in range(most):
            if index == len(self.hops):
                await self._ask(index, turns, self._hop)
            self._look_again([self.hops[index]["ask"]])
            answer = self._answer(self.hops[index]["ask"])
            made = answer.get("function_calls")
            if not made:
                return answer if self._form is None else await self._in_form(self._form, index + 1, turns, answer)
            if "calls" not in self.hops[index]:
                if index == most - 1:
                    break
                await self._call(index, made)
            self._look_again(self.hops[index]["calls"])
            turns = [*turns, answer["content"], self._told(made, self.hops[index]["calls"])]
        raise Permanent(f"the model still calls functions in answer {most}, `max_hops` is {most}", code="max_hops")

    async def _in_form(
        self, question: dict[str, Any], index: int, turns: list[Any], answer: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The answer once more, as the JSON that was asked for."""
        if index == len(self.hops):
            await self._ask(index, [*turns, *in_form(answer["text"])], question)
        self._look_again([self.hops[index]["ask"]])
        return self._answer(self.hops[index]["ask"])

    def _look_again(self, numbers: Sequence[int | str]) -> None:
        """After a retry by a person: what had failed may have been put back as well, and is waited for once more."""
        missing = [it for it in numbers if isinstance(it, int) and str(it) not in self._context.results]
        if missing and not self._context.agains:
            raise self._wait(missing)

    async def _ask(self, index: int, turns: list[Any], question: Mapping[str, Any]) -> None:
        wanted = {**self._terms, "type": "gemini", "data": {**question, "contents": turns}, "template": False}
        try:
            added = await self._context.submit([wanted], step=f"ask-{index}")
        except RequestRefused as refused:
            if refused.code == "growth_limit" or (refused.path or "").startswith("tasks["):
                raise Permanent(f"{refused.message} (at {refused.path})", code=refused.code) from None
            raise
        self.hops.append({"ask": added["first"]})
        raise self._wait([added["first"]])

    async def _call(self, index: int, made: list[dict[str, Any]]) -> None:
        """Add a task for each call. One that can't be made into a task is answered with why."""
        wanted: dict[int, dict[str, Any]] = {}
        said: list[int | str] = []
        for place, call in enumerate(made):
            function = self._offered.get(call["name"])
            if function is None:
                said.append(f"there is no function {call['name'][:64]!r}, or you may not call it")
            elif (name := function.unknown(call.get("args") or {})) is not None:
                # The task type may know it, such as another flow's workspace: that is not the model's to choose.
                said.append(f"{function.name} has no argument {name[:64]!r}")
            elif len(wanted) == _MOST_CALLS:
                said.append(f"not carried out: at most {_MOST_CALLS} calls in one answer")
            else:
                said.append(0)
                wanted[place] = self._task_of(function, call, index)
        numbers = await self._added(wanted, said, index)
        self.hops[index]["calls"] = said
        if numbers:
            raise self._wait(numbers)

    def _task_of(self, function: Function, call: Mapping[str, Any], index: int) -> dict[str, Any]:
        kind, data = function.task(dict(call.get("args") or {}))
        return {
            **{key: self._terms[key] for key in ("priority", "queue") if key in self._terms},
            "type": kind,
            "data": {**data, "errors_as_result": True},
            "retries": _CALL_RETRIES,
            "template": False,
            "metadata": {"function": function.name, "hop": index + 1},
        }

    async def _added(self, wanted: dict[int, dict[str, Any]], said: list[int | str], index: int) -> list[int]:
        """Add them and write their numbers into `said`; of one whose arguments are refused, why, and the others are added."""
        while wanted:
            try:
                added = await self._context.submit(list(wanted.values()), step=f"calls-{index}")
            except RequestRefused as refused:
                found = _OF_TASK.match(refused.path or "")
                if refused.code == "growth_limit":
                    raise Permanent(refused.message, code=refused.code) from None
                if found is None:
                    raise
                place = list(wanted)[int(found[1])]
                del wanted[place]
                said[place] = f"{refused.message} (at {found[2].removeprefix('data.')})"[:_MOST_WORDS]
            else:
                for place, number in zip(wanted, range(added["first"], added["first"] + len(wanted)), strict=True):
                    said[place] = number
                return [number for number in said if isinstance(number, int)]
        return []

    def _answer(self, number: int) -> dict[str, Any]:
        """The result of a question. Raises Permanent: `hop_failed`."""
        answer = self._context.results.get(str(number))
        if answer is None:
            message = f"task {number} asked the model and did not succeed; `gemflowctl retry {number} --downstream`"
            raise Permanent(message, code="hop_failed")
        if not answer.get("cached"):
            for name, value in (answer.get("usage") or {}).items():
                if isinstance(value, int):
                    self.usage[name] = self.usage.get(name, 0) + value
        found: dict[str, Any] = answer
        return found

    def _told(self, made: list[dict[str, Any]], said: list[int | str]) -> dict[str, Any]:
        """The turn after the model's."""
        results = self._context.results
        told = []
        for call, it in zip(made, said, strict=True):
            if isinstance(it, int):
                self.calls.append({"tool": self._offered[call["name"]].tool, "task": it})
                told.append(response(it, results.get(str(it))))
            else:
                told.append({"error": it})
        return answers(made, told)

    def _wait(self, numbers: list[int]) -> Exception:
        note = {"hops": self.hops}
        if len(msgpack.packb(note)) > _MOST_NOTE:
            return Permanent("the conversation has more calls than can be kept track of", code="max_calls")
        return Wait(numbers, note)
