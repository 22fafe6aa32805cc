"""Ray on this machine."""

import os

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import harness
import ray

SETTINGS = "ray.init(num_cpus=2), no dashboard; .remote() for each, one ray.get for all"
PACKAGES = ("ray",)


@ray.remote
def noop(value):
    return value


def workers():
    return []


def start():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=str(harness.DIRECTORY / "ray"))


def stop():
    ray.shutdown()


def single(n):
    assert ray.get([noop.remote(number) for number in range(n)]) == list(range(n))


if __name__ == "__main__":
    harness.run("with_ray")
