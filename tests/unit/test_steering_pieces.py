"""References to very many tasks, cut into pieces."""

from __future__ import annotations

from gemflowd.model.refs import FlowRef, TaskRange
from gemflowd.server.commands.steering import PIECE, pieces


def test_a_wide_range_comes_in_pieces_that_end_at_the_last_task() -> None:
    found = list(pieces([TaskRange(5, 10**12)], 2 * PIECE + 7))
    assert found == [
        [TaskRange(5, PIECE + 4)],
        [TaskRange(PIECE + 5, 2 * PIECE + 4)],
        [TaskRange(2 * PIECE + 5, 2 * PIECE + 7)],
    ]


def test_small_ones_go_together_and_nothing_is_left_out() -> None:
    refs = [FlowRef(3), *(TaskRange(number, number) for number in range(1, 2 * PIECE))]
    found = list(pieces(refs, 10**6))
    assert [ref for piece in found for ref in piece] == refs
    assert [len(piece) for piece in found] == [PIECE, PIECE]


def test_what_lies_behind_the_last_task_is_nothing() -> None:
    assert list(pieces([TaskRange(50, 60)], 10)) == []
