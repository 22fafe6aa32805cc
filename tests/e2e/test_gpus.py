"""GPUs: each attempt has its own CUDA_VISIBLE_DEVICES. With names by hand on any machine, with a real GPU where there is one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.daemon import environment, running

from gemflowd.host.gpus import gpu_ids

#: Says which devices it may use, when another one has come too: only two at a time can end.
PAIR = 'echo "$CUDA_VISIBLE_DEVICES"; touch "$1"; while [ ! -e "$2" ]; do sleep 0.02; done'


def pair(here: Path, me: str, other: str, amount: float) -> dict[str, Any]:
    program = ["/bin/sh", "-c", PAIR, "sh", str(here / me), str(here / other)]
    return {"type": "command", "data": {"args": program}, "resources": {"gpu": amount}, "timeout": 60}


def visible() -> dict[str, Any]:
    return {"type": "command", "data": {"args": ["/bin/sh", "-c", "echo $CUDA_VISIBLE_DEVICES; sleep 0.1"]}}


def test_two_tasks_share_one_device(tmp_path: Path) -> None:
    with running(workers=2, gpus=["GPU-one"]) as daemon:
        client = daemon.client()
        lines = client.run(pair(tmp_path, "a", "b", 0.5), pair(tmp_path, "b", "a", 0.5))
        assert [line["result"]["stdout"].strip() for line in lines] == ["GPU-one"] * 2


def test_whole_devices_are_nobody_elses() -> None:
    with running(workers=4, gpus=["GPU-one", "GPU-two"]) as daemon:
        client = daemon.client()
        lines = client.run(*[{**visible(), "resources": {"gpu": 1}} for _ in range(6)], visible())
        seen = [line["result"]["stdout"].strip() for line in lines]
        assert set(seen[:-1]) <= {"GPU-one", "GPU-two"}
        assert seen[-1] == environment().get("CUDA_VISIBLE_DEVICES", "")
        shown = [task for task in client("list")["tasks"] if task["type"] == "command"][:6]
        for one in shown:  # of those that ran at one time no two had the same
            for other in shown:
                overlap = one["started"] < other["finished"] and other["started"] < one["finished"]
                if one["number"] < other["number"] and overlap:
                    assert seen[one["number"] - 1] != seen[other["number"] - 1]


def test_a_real_gpu_is_found_and_shared_by_two_tasks(tmp_path: Path) -> None:
    found = gpu_ids(["auto"], os.environ)
    if not found or shutil.which("nvidia-smi") is None:
        pytest.skip("no GPU that NVML knows")
    program = ["nvidia-smi", "-L"]
    with running(workers=2) as daemon:
        client = daemon.client()
        lines = client.run(pair(tmp_path, "a", "b", 0.5), pair(tmp_path, "b", "a", 0.5))
        assert all(line["result"]["stdout"].strip() in found for line in lines)
        assert client.run({"type": "command", "data": {"args": program}, "resources": {"gpu": 1}})[0]["ok"]
