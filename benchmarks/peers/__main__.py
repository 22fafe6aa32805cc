"""No-op tasks through other task systems, each in its own environment, and through gemflow in the same run.

Each peer is set as its own documentation recommends, with 2 worker processes; the better of bulk and single submission counts,
until the client has seen the last result. Gemflow is measured before and after each round of a peer, which is frozen meanwhile
(SIGSTOP), so that a peer that polls takes nothing from it. A peer's rounds have as many tasks as fill about --seconds, 20,000 at
most; gemflow's have 20,000.

`durable` peers sync to disk before they acknowledge, as gemflow does: 8 times the fastest of these is the target, 3 times of any other.
What can't be run is left out by name, with the reason. `make bench-peers` installs the peers first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.peers.catalogue import PEERS, Peer
from benchmarks.peers.running import Running
from benchmarks.peers.servers import Missing
from benchmarks.report import ROUNDS, parser, say, show
from benchmarks.running import daemon
from benchmarks.throughput import WARM, gemflow_rate
from gemflowctl import Client

_LEAST, _MOST = 200, 20_000
DURABLE, ANY = 8.0, 3.0


def calibrate(running: Running, seconds: float) -> tuple[str, int]:
    """The better way to submit, and how many tasks take about so long."""
    rates = {}
    for way in running.about["ways"]:
        running.rate(way, 100)
        small = running.rate(way, 300)
        rates[way] = running.rate(way, max(_LEAST, min(_MOST, int(small * seconds / 4))))
    way = max(rates, key=lambda name: rates[name])
    return way, max(_LEAST, min(_MOST, int(rates[way] * seconds) // 100 * 100))


def compare(peer: Peer, arguments: argparse.Namespace) -> Figure:
    """Rounds of the peer between rounds of gemflow.

    Raises:
        Missing: the peer can't be run here.
    """
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory(prefix="gf-peer-") as name:
        directory = Path(name)
        with peer.server(directory) as (url, server_settings):
            running = Running(peer, directory, url)
            try:
                way, tasks = calibrate(running, arguments.seconds)
                with daemon("--workers", "2") as (endpoint, _), Client(endpoint) as gemflow:
                    gemflow_rate(gemflow, WARM)
                    before = gemflow_rate(gemflow, arguments.tasks)
                    for _ in range(ROUNDS):
                        theirs.append(running.rate(way, tasks))
                        after = gemflow_rate(gemflow, arguments.tasks)
                        ours.append((before + after) / 2)
                        before = after
            finally:
                running.close()
    about = running.about
    server = f"; server: {server_settings}" if server_settings else ""
    settings = f"{tasks:,} tasks a round, {way} submission; {about['versions']}; {about['settings']}{server}"
    label = f"{peer.name} ({'durable' if peer.durable else 'not durable'})"
    say(f"{label}: {', '.join(f'{rate:,.0f}/s' for rate in theirs)}; gemflow {statistics.median(ours):,.0f}/s")
    return Figure(label, ours, "/s", way, theirs, least=DURABLE if peer.durable else ANY, settings=settings)


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--only", nargs="+", metavar="NAME", choices=[peer.name for peer in PEERS], help="some of the peers"
    )
    options.add_argument("--tasks", type=int, default=20_000, help="of a round of gemflow (default: %(default)s)")
    options.add_argument("--seconds", type=float, default=3.0, help="that a peer's round takes (default: %(default)s)")
    arguments = options.parse_args()
    figures: list[Figure] = []
    left_out: list[str] = []
    for peer in PEERS:
        if arguments.only and peer.name not in arguments.only:
            continue
        try:
            figures.append(compare(peer, arguments))
        except Missing as reason:
            left_out.append(f"{peer.name}: {reason}")
            say(f"{peer.name} is left out: {reason}")
    print("no-op tasks from the first submission to the last result seen by the client, 2 worker processes each")
    if figures:
        show(figures, "peers")
    for line in left_out:
        print(f"left out: {line}")


if __name__ == "__main__":
    main()
