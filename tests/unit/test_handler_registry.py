"""How handlers are described and found: models, entry points, modules, and what is wrong with them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from gemflowd.handlers.registry import MAX_SCHEMA, discover, handlers_of, task
from gemflowd.model.attempt import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclasses.dataclass
class Shape:
    sides: int


def described(*functions: Any) -> tuple[list[Any], list[str]]:
    module = ModuleType("made_up")
    for number, function in enumerate(functions):
        setattr(module, f"f{number}", function)
    warned: list[str] = []
    return handlers_of(module, warned.append), warned


def test_the_model_is_given_or_annotated() -> None:
    @task("given", input=Shape)
    def given(data: Any, context: Any) -> None: ...

    @task("annotated")
    def annotated(data: Shape, context: Any) -> None: ...

    @task("map")
    def plain(data: dict[str, Any], context: Any) -> None: ...

    @task("own-schema", schema={"type": "object", "required": ["a"]})
    def own(data: Shape, context: Any) -> None: ...

    found, warned = described(given, annotated, plain, own)
    assert [handler.model for handler in found] == [Shape, Shape, None, None]
    assert [handler.info.converts for handler in found] == [True, True, False, False]
    assert found[0].info.schema["$defs"]["Shape"]["required"] == ["sides"]
    assert [handler.info.schema for handler in found[2:]] == [
        {"type": "object"},
        {"type": "object", "required": ["a"]},
    ]
    assert warned == []


def test_an_annotation_for_a_type_checker_alone_is_told() -> None:
    @task("typed")
    def typed(data: Mapping[str, Any], context: Any) -> None: ...

    found, warned = described(typed)
    assert found[0].model is None
    assert len(warned) == 1
    assert "'Mapping[str, Any]' of the task type 'typed'" in warned[0]


def test_a_coroutine_may_be_isolated() -> None:
    @task("shared")
    async def shared(data: Any, context: Any) -> None: ...

    @task("alone", isolate=True)
    async def alone(data: Any, context: Any) -> None: ...

    found, _ = described(shared, alone)
    assert [handler.info.kind for handler in found] == [Kind.COROUTINE, Kind.BLOCKING]


def test_what_makes_no_sense_is_refused_where_it_is_written() -> None:
    with pytest.raises(TypeError, match="both `input` and `schema`"):
        task("t", input=Shape, schema={})
    with pytest.raises(TypeError, match="no dataclass, msgspec Struct or pydantic model"):
        task("t", input=dict)


def test_a_schema_has_a_size() -> None:
    @task("large", schema={"description": "x" * MAX_SCHEMA})
    def large(data: Any, context: Any) -> None: ...

    with pytest.raises(TypeError, match="the schema of task type 'large' has"):
        described(large)


def install(path: Path, name: str, entry_points: str, **modules: str) -> None:
    """A package as an installer leaves it."""
    info = path / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[gemflow.tasks]\n{entry_points}\n")
    for module, text in modules.items():
        (path / f"{module}.py").write_text("from gemflowd.handlers.registry import task\n" + text)


ONE = '@task("one")\ndef one(data, context): ...\n@task("two")\ndef two(data, context): ...\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_entry_points_are_modules_or_functions(place: Path) -> None:
    install(place, "all-of-it", "all = registry_all", registry_all=ONE)
    install(place, "some-of-it", "some = registry_some:two", registry_some=ONE.replace('"two"', '"three"'))
    found = discover([])
    assert {name for name, handler in found.items() if handler.info.package} == {"one", "two", "three"}
    assert found["one"].info.package == "all-of-it 1.2"
    assert (found["three"].info.module, found["three"].info.package) == ("registry_some", "some-of-it 1.2")


@pytest.mark.parametrize(
    ("value", "text", "says"),
    [
        ("registry_gone", "", "No module named 'registry_gone'"),
        ("registry_bad", "import nothing_of_that_name\n", "nothing_of_that_name"),
        ("registry_bad:missing", ONE, "has no attribute 'missing'"),
        ("registry_bad:task", ONE, "task is no function with @task"),
        ("registry_bad", "raise SystemExit('no thanks')\n", "no thanks"),
        ("registry_bad", "class E(Exception):\n    pass\nraise E\n", "E"),
    ],
)
def test_a_broken_entry_point_names_its_package(
    place: Path, monkeypatch: pytest.MonkeyPatch, value: str, text: str, says: str
) -> None:
    monkeypatch.delitem(sys.modules, "registry_bad", raising=False)
    install(place, "broken", f"its = {value}", registry_bad=text)
    with pytest.raises(ImportError) as caught:
        discover([])
    assert f"its = {value!r} of the package broken 1.2 can't be imported" in str(caught.value)
    assert says in str(caught.value)


def test_a_later_type_replaces_an_earlier_one_and_that_is_told(place: Path) -> None:
    install(place, "first", "first = registry_first", registry_first=ONE)
    (place / "registry_second.py").write_text("from gemflowd.handlers.registry import task\n" + ONE)
    warned: list[str] = []
    found = discover(["registry_second", "registry_second"], warned.append)
    assert found["one"].info.module == "registry_second"
    assert warned == [
        f"the task type {name!r} of registry_first (first 1.2) is replaced by that of registry_second"
        for name in ("one", "two")
    ]


def test_pydantic_is_not_loaded_by_us() -> None:
    text = (
        "import sys, dataclasses\n"
        "from gemflowd.handlers.registry import discover, task, handlers_of\n"
        "@dataclasses.dataclass\nclass A:\n    x: int\n"
        "@task('a')\ndef a(data: A, context): ...\n"
        "assert handlers_of(sys.modules['__main__'])[0].model is A\n"
        "assert 'pydantic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)
