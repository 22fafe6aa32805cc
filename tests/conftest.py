"""Assertions in the helpers say as much as those in the tests. Before anything imports them."""

import pytest

pytest.register_assert_rewrite("helpers.history", "helpers.queue_model", "helpers.rig", "helpers.fake_executor")
