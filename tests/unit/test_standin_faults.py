"""Faults on purpose: markers, chance with a seed, and the quota."""

from __future__ import annotations

from collections import Counter

import pytest

from gemflowd.model.errors import ConfigError
from gemflowd.standin.faults import Fault, Faults, without_markers
from gemflowd.standin.options import Options
from gemflowd.standin.parse import Asked, BadRequest, parse


def asked(text: str) -> Asked:
    return parse({"contents": [{"parts": [{"text": text}]}]})


def test_a_marker_counts_for_the_first_calls_with_its_text() -> None:
    faults = Faults(Options())
    first = asked("[[stand-in:429 retry=0.2 times=2]] one [[stand-in:503 times=3]]")
    kinds = [faults.decide("m", first, 0.0) for _ in range(4)]
    assert kinds == [Fault("429", 0.2), Fault("429", 0.2), Fault("503"), None]
    assert faults.decide("other-model", first, 0.0) == Fault("429", 0.2)


@pytest.mark.parametrize(
    ("marker", "fault"),
    [
        ("[[stand-in:500]]", Fault("500")),
        ("[[stand-in:slow seconds=2]]", Fault("slow", 2.0)),
        ("[[stand-in:429 retry=36.4 details=no]]", Fault("429", 36.4, in_details=False)),
        ("[[stand-in:safety]]", Fault("safety")),
        ("[[stand-in:no_such_thing]]", None),
        ("[[stand-in:200]]", None),
        ("[stand-in:500]", None),
    ],
)
def test_markers(marker: str, fault: Fault | None) -> None:
    assert Faults(Options()).decide("m", asked(f"before {marker} after"), 0.0) == fault
    if fault is not None:
        assert without_markers(f"before {marker} after") == "before  after"


def test_chance_does_not_depend_on_the_order_of_arrival() -> None:
    options = Options(seed=3, rate_429=0.2, rate_500=0.1, rate_disconnect=0.1)
    texts = [asked(f"text {number}") for number in range(1000)]
    forwards, backwards = Faults(options), Faults(options)
    one = [forwards.decide("m", text, 0.0) for text in texts]
    other = [backwards.decide("m", text, 0.0) for text in reversed(texts)]
    assert one == other[::-1]
    counts = Counter(fault.kind if fault else None for fault in one)
    assert 150 < counts["429"] < 250
    assert 60 < counts["500"] < 140
    assert 520 < counts[None] < 680
    assert [forwards.decide("m", text, 0.0) for text in texts] != one  # a second call has its own luck


def test_the_quota_is_a_sliding_window_for_each_model() -> None:
    faults = Faults(Options(quota=2, window=10.0))
    text = asked("x")
    assert [faults.decide("m", text, now) for now in (0.0, 4.0)] == [None, None]
    assert faults.decide("m", text, 5.0) == Fault("429", 5.0, quota=2, window=10.0)
    assert faults.decide("n", text, 5.0) is None
    assert faults.decide("m", text, 10.0) is None
    assert faults.decide("m", text, 11.0) == Fault("429", 3.0, quota=2, window=10.0)


def test_bodies_in_either_spelling() -> None:
    camel = parse(
        {
            "contents": [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}, {"role": "model", "parts": []}],
            "systemInstruction": {"parts": [{"text": "sys"}]},
            "generationConfig": {"maxOutputTokens": 5, "responseMimeType": "application/json"},
        }
    )
    snake = parse(
        {
            "contents": {"role": "user", "parts": {"text": "a\n\nb"}},
            "system_instruction": {"parts": {"text": "sys"}},
            "generation_config": {"max_output_tokens": 5, "response_mime_type": "application/json"},
        }
    )
    assert (camel.prompt, camel.system, camel.max_tokens, camel.wants_json) == ("a\n\nb", "sys", 5, True)
    assert (snake.prompt, snake.system, snake.max_tokens, snake.wants_json) == ("a\n\nb", "sys", 5, True)
    assert camel.tokens == 3


@pytest.mark.parametrize("body", [[], {}, {"contents": []}, {"contents": [1]}, {"contents": [{"parts": 1}]}])
def test_bodies_that_are_refused(body: object) -> None:
    with pytest.raises(BadRequest):
        parse(body)


def test_options_report_every_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        Options(rate_500=2.0, latency=-1.0, quota=0, window=0.0, port=70_000).check()
    assert len(caught.value.problems) == 5
