"""`python -m benchmarks.peers.install`: a virtual environment for each peer, in build/peers. What is there already is kept.

A peer that can't be installed is named with the reason, and the others go on.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.peers.catalogue import ENVIRONMENTS
from benchmarks.peers.running import environment
from benchmarks.report import say


def main() -> None:
    for name, packages in ENVIRONMENTS.items():
        place = environment(name)
        done = place / ".installed"
        if done.exists() and done.read_text() == " ".join(packages):
            continue
        say(f"{name}: installing {' '.join(packages)}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, *packages], check=False).returncode:
            say(f"{name}: could not be installed; it will be left out")
        else:
            done.write_text(" ".join(packages))


if __name__ == "__main__":
    main()
