"""The demo: a daemon of its own, a flow of four agents over this project's documents, and a few hundred prompts.

    python examples/demo.py --offline     answers by a stand-in on this machine; needs no key and no network
    python examples/demo.py --gemini      the flow and twenty prompts on Gemini, with your key

Everything it makes lies in a directory that it names at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gemflowctl import Client

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md",
    "docs/architecture.md",
    "docs/semantics.md",
    "docs/protocol.md",
    "docs/cli.md",
    "CONTRIBUTING.md",
)
OFFLINE_PROMPTS, GEMINI_PROMPTS = 300, 20
KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")

console = Console(highlight=False)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    where = arguments.add_mutually_exclusive_group(required=True)
    where.add_argument("--offline", action="store_true", help="use a stand-in on this machine")
    where.add_argument("--gemini", action="store_true", help="use Gemini, with your key")
    arguments.add_argument("--yes", action="store_true", help="with --gemini: don't ask before the calls are made")
    given = arguments.parse_args()
    if given.gemini and not may_call(GEMINI_PROMPTS + 4, given.yes):
        return 1
    if given.offline:
        console.print(
            "[bold]OFFLINE[/]: a stand-in on this machine answers, from the prompt's own text. No model is asked."
        )
    directory = Path(tempfile.mkdtemp(prefix="gemflow-demo-"))
    prompts = write_prompts(directory / "prompts.jsonl", OFFLINE_PROMPTS if given.offline else GEMINI_PROMPTS)
    with daemon(directory, offline=given.offline) as endpoint, Client(endpoint) as gemflow:
        failed = flow_of_agents(gemflow, directory) + many_prompts(gemflow, directory, prompts)
        stats = gemflow.stats()
    console.rule("summary")
    console.print(f"{stats['completed']} tasks succeeded, {failed} did not; the daemon is stopped.")
    console.print(f"Results, prompts, log and database are in {directory}")
    return 1 if failed else 0


def may_call(calls: int, yes: bool) -> bool:
    """Whether the user wants it: these calls go to Gemini and may cost money."""
    if not any(os.environ.get(name) for name in KEYS):
        console.print(f"No key: set {' or '.join(KEYS)}, or try `make demo`, which needs none.")
        return False
    console.print(f"This makes {calls} calls to Gemini with your key.")
    return yes or not sys.stdin.isatty() or console.input("Go on? [y/N] ").strip().lower() == "y"


@contextmanager
def daemon(directory: Path, *, offline: bool) -> Iterator[str]:
    """A gemflowd with a state directory of its own, for as long as the block runs."""
    endpoint = f"ipc://{directory}/gemflowd.sock"
    command = [sys.executable, "-m", "gemflowd", "run", "--state-dir", str(directory / "state"), "--endpoint", endpoint]
    command += ["--profile", "performance", *(["--offline"] if offline else [])]
    with (directory / "gemflowd.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
    try:
        wait_for(directory / "gemflowd.sock", process, directory / "gemflowd.log")
        with Client(endpoint) as gemflow:
            hello = gemflow.hello()
            size = gemflow.status()["slots"]
        console.print(
            f"gemflowd {hello['version']} runs as process {process.pid}: {size['coroutine']} model calls at a time."
        )
        yield endpoint
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_for(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the daemon has made its socket; its log says why, if it never does."""
    while not socket.exists():
        if process.poll() is not None:
            sys.exit(f"demo: gemflowd did not start:\n{log.read_text()}")
        time.sleep(0.02)


def documents() -> dict[str, str]:
    """The project's own documents without their tables and listings: prose is what a reader of text can work with."""
    found = {name: prose((ROOT / name).read_text("utf-8")) for name in DOCUMENTS if (ROOT / name).exists()}
    if len(found) < 2:
        sys.exit(f"demo: the documents {', '.join(DOCUMENTS)} are not below {ROOT}")
    return found


def prose(text: str) -> str:
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.startswith("|"))


def flow_of_agents(gemflow: Client, directory: Path) -> int:
    """Two researchers side by side, an analyzer over both, a writer at the end. Returns how many tasks failed."""
    console.rule("a flow of four agents")
    (name_a, text_a), (name_b, text_b) = list(documents().items())[1:3]
    tasks = [
        {"id": "research-a", "agent": "researcher", "task": f"What are the main ideas of {name_a}?\n\n{text_a}"},
        {"id": "research-b", "agent": "researcher", "task": f"What are the main ideas of {name_b}?\n\n{text_b}"},
        {
            "id": "analysis",
            "agent": "analyzer",
            "task": "Compare these notes. What holds both together?\n\n{{ deps.research_a.text }}\n\n{{ deps.research_b.text }}",
            "deps": ["research-a", "research-b"],
        },
        {
            "id": "report",
            "agent": "writer",
            "task": "Write a short report.\n\n{{ deps.analysis.text }}",
            "deps": ["analysis"],
        },
    ]
    begin = time.perf_counter()
    flow = gemflow.submit_batch(tasks, name="demo-report")
    for result in flow.as_completed():
        mark = "[green]✓[/]" if result.ok else "[red]✗[/]"
        console.print(f"  {mark} {result.id:<12} after {time.perf_counter() - begin:.2f} s")
        if not result.ok:
            console.print(f"    {result.error}", markup=False)
    report = next((result for result in flow.results() if result.id == "report"), None)
    if report is not None and report.ok:
        (directory / "report.md").write_text(report.value["text"] + "\n", "utf-8")
        console.print()
        console.print(report.value["text"], markup=False)
        console.print()
    summary(gemflow, flow.number, time.perf_counter() - begin)
    return sum(not result.ok for result in flow.results())


def write_prompts(path: Path, count: int) -> Path:
    """A JSONL file of prompts: a question about each passage of the documents, `count` lines in all."""
    passages = [
        (name, passage.strip())
        for name, text in documents().items()
        for passage in re.split(r"\n\s*\n|\n(?=- |\| )", text)
        if len(passage) > 80
    ]
    questions = ("Summarize", "Name the most important fact in", "What would a user have to know from")
    lines = []
    for index in range(count):
        name, passage = passages[index % len(passages)]
        question = questions[index // len(passages) % len(questions)]
        lines.append({"id": f"p{index + 1:03}", "task": f"{question} this passage of {name}:\n\n{passage}"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def many_prompts(gemflow: Client, directory: Path, prompts: Path) -> int:
    """The prompts of a JSONL file as one flow, with live progress. Returns how many failed."""
    tasks = [json.loads(line) for line in prompts.read_text("utf-8").splitlines()]
    console.rule(f"{len(tasks)} prompts from {prompts.name}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    begin = time.perf_counter()
    flow = gemflow.submit_batch(tasks, name="demo-prompts")
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("answered", total=len(tasks))
        for _ in flow.as_completed():
            progress.advance(bar)
    seconds = time.perf_counter() - begin
    failed = 0
    with (directory / "results.jsonl").open("w", encoding="utf-8") as out:
        for sent, result in zip(tasks, flow.results(), strict=True):
            assert sent["id"] == result.id, "results come in the order of submission"
            failed += not result.ok
            line = {"id": result.id, **({"text": result.value["text"]} if result.ok else {"error": str(result.error)})}
            out.write(json.dumps(line) + "\n")
    summary(gemflow, flow.number, seconds)
    return failed


def summary(gemflow: Client, flow: int, seconds: float) -> None:
    """How long it took, and how many of its tasks ran at the same time."""
    spans = [(task["started"], task["finished"]) for task in gemflow.list(flow=flow) if task["started"]]
    changes = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    console.print(
        f"flow f{flow}: {len(spans)} tasks in {seconds:.2f} s, {len(spans) / seconds:.0f} a second, up to {most} at once"
    )


if __name__ == "__main__":
    sys.exit(main())
