"""Which GPUs attempts are given, as far as settings and environment say. What NVML finds: tests/e2e/test_gpus.py."""

from __future__ import annotations

from gemflowd.host.gpus import gpu_ids


def test_settings_over_environment_over_the_machine() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "2, GPU-abc"}
    assert gpu_ids(["none"], environ) == ()
    assert gpu_ids(["0", "3"], environ) == ("0", "3")
    assert gpu_ids(["auto"], environ) == ("2", "GPU-abc")


def test_an_environment_that_hides_all() -> None:
    assert gpu_ids(["auto"], {"CUDA_VISIBLE_DEVICES": ""}) == ()
    assert gpu_ids(["auto"], {"CUDA_VISIBLE_DEVICES": "-1"}) == ()
