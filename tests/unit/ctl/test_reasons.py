"""Why a task is not running, in words."""

from __future__ import annotations

import pytest

from gemflowctl.reasons import sentence

DEP = {"number": 41, "id": "a", "flow": 7, "on": "success", "state": "running"}


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ({"code": "running"}, "it runs"),
        ({"code": "ended"}, "it has ended"),
        ({"code": "blocked", "deps": [DEP], "waiting": 1}, "it waits for 1 task: 41 (a) is running"),
        (
            {"code": "blocked", "deps": [{**DEP, "id": None, "on": "failure"}, {**DEP, "on": "done"}], "waiting": 2},
            "it waits for 2 tasks: 41 is running and must end with failure, 41 (a) is running and must end",
        ),
        ({"code": "held"}, "it is held until somebody releases it"),
        ({"code": "missing_handler", "type": "x"}, "there is no handler for its type x any more"),
        ({"code": "receiving"}, "its flow has not been received as a whole yet"),
        ({"code": "ordering"}, "its flow is being put in order by its critical path"),
        ({"code": "queue_paused", "queue": "slow"}, "the queue slow is paused"),
        (
            {"code": "queue_limit", "queue": "slow", "limit": 4, "running": 4},
            "4 of at most 4 tasks of the queue slow run",
        ),
        (
            {"code": "resource", "resource": "gpu", "needed": 1, "total": 2, "used": 1.5},
            "it needs 1 of the resource gpu, of which 1.5 of 2 is in use",
        ),
        (
            {"code": "resource", "resource": "gpu", "needed": 3, "total": 2, "used": 0},
            "it needs 3 of the resource gpu, but there is only 2 in all",
        ),
        ({"code": "no_worker", "kind": "blocking"}, "no blocking worker is free"),
        ({"code": "sequential"}, "parallel execution is disabled, and another task runs"),
        ({"code": "draining"}, "the daemon is stopping and starts nothing more"),
        ({"code": "behind", "ahead": 12}, "12 tasks start before it"),
        ({"code": "behind", "ahead": 1}, "1 task starts before it"),
        ({"code": "behind", "ahead": 10000, "more": True}, "more than 10000 tasks start before it"),
        ({"code": "starting"}, "nothing stands in its way, it starts in a moment"),
        ({"code": "of_tomorrow", "message": "the moon is full"}, "the moon is full"),
        ({"code": "queue_limit", "message": "the queue is full"}, "the queue is full"),
    ],
)
def test_each_code_has_a_sentence(reason: dict[str, object], words: str) -> None:
    assert sentence(reason) == words


def test_moments_are_told() -> None:
    assert sentence({"code": "scheduled", "due": 1893456000.0}).startswith("it is not due before 20")
    assert sentence({"code": "limit_asleep", "bucket": "b", "until": 1893456000.0}).startswith(
        "the limit b sleeps until 20"
    )


def test_of_many_dependencies_a_few_are_named() -> None:
    words = sentence({"code": "blocked", "deps": [DEP] * 20, "waiting": 25})
    assert words.startswith("it waits for 25 tasks: ")
    assert words.count("41 (a)") == 5
    assert words.endswith(" and 20 more")
