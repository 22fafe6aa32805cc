"""The benchmarks can be imported, and what they measure is printed with its ratio and whether it met its target. Nothing is timed."""

import importlib
from pathlib import Path

import pytest

from benchmarks.figures import HEAD, Figure
from benchmarks.peers.catalogue import ENVIRONMENTS, PEERS
from benchmarks.report import show, table

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("*.py")
    if not path.name.startswith(("with_", "__init__"))  # with_…: in the environment of a peer alone
)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_can_be_imported_and_says_what_it_is(module: str) -> None:
    assert importlib.import_module(module).__doc__


def test_each_peer_has_an_environment_and_a_module_that_python_reads() -> None:
    assert {peer.environment for peer in PEERS} == set(ENVIRONMENTS)
    for name in ENVIRONMENTS:
        path = ROOT / "benchmarks" / "peers" / f"with_{name}.py"
        compile(path.read_text(), path, "exec")


def test_a_ratio_is_the_median_of_the_rounds_and_is_judged() -> None:
    figure = Figure("work", [10, 30, 20], "/s", "other", [10, 10, 10], least=2.0)
    assert figure.ratios() == [1, 3, 2]
    assert figure.met() is True
    assert figure.cells() == ("work", "20.0/s", "10.0/s other", "2.00", "1.00 to 3.00", "≥ 2.00×", "yes")


def test_what_stands_alone_is_judged_by_its_value() -> None:
    assert Figure("work", [9.0, 11.0, 12.0], "ms", most=10.0).met() is False
    assert Figure("work", [9.0], "ms").met() is None


def test_one_round_less_on_one_side_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Figure("work", [1, 2], "/s", "other", [1]).ratios()


def test_the_table_says_the_truth_about_what_was_missed(capsys: pytest.CaptureFixture[str]) -> None:
    figures = [
        Figure("fast", [30_000, 40_000, 50_000], "/s", least=30_000, settings="2 workers"),
        Figure("slow", [1.0, 2.0, 3.0], "/s", "other", [4.0, 4.0, 4.0], least=0.8),
    ]
    table(HEAD, [figure.cells() for figure in figures])
    show(figures, "nothing")
    said = capsys.readouterr().out
    assert "40,000/s" in said
    assert "1 of 2 targets met" in said
    assert "fast: 2 workers" in said
    assert "python -m benchmarks.nothing" in said
    [line] = {line for line in said.splitlines() if line.startswith("slow")}
    assert line.endswith("NO")
