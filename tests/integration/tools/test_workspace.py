"""The workspace: nothing leads out of it, nobody sees half a file, and what is done in parallel is all there."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from gemflowd.handlers.errors import AttemptCancelled, Permanent
from gemflowd.handlers.workspace import beneath, workspace
from gemflowd.handlers.workspace.beneath import by_kernel, by_walking
from gemflowd.handlers.workspace.files import UNFINISHED, Files
from tests.helpers.contexts import make_context

SECRET = "the secret"
Opener = Callable[[int, str, int, int], int]


def kernel_has_openat2() -> bool:
    root = os.open("/", os.O_PATH)
    try:
        os.close(by_kernel(root, ".", os.O_PATH, 0))
    except OSError:
        return False
    finally:
        os.close(root)
    return True


@pytest.fixture(params=[by_kernel, by_walking])
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Each way of opening, also for what is above it."""
    if request.param is by_kernel and not kernel_has_openat2():
        pytest.skip("this kernel has no openat2, or a filter refuses it")
    monkeypatch.setattr(beneath, "_opener", lambda: request.param)
    found: Opener = request.param
    return found


@pytest.fixture
def files(tmp_path: Path, opener: Opener) -> Iterator[Files]:
    (tmp_path / "secret").write_text(SECRET)
    context, _ = make_context(settings={"workspace": str(tmp_path / "ws"), "tool_max_file_mb": 1})
    (tmp_path / "ws").mkdir()
    with workspace(context) as found:
        yield found


@pytest.fixture
def root(tmp_path: Path, files: Files) -> Path:
    return tmp_path / "ws" / "flows" / "7"


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(Permanent) as caught:
        action()
    return caught.value.code


# --- where it lies ---


def test_each_flow_has_its_own_and_those_with_names_are_shared(tmp_path: Path) -> None:
    context, _ = make_context(settings={"workspace": str(tmp_path)})
    with workspace(context) as own, workspace(context, "team") as shared:
        own.write("a", b"1")
        shared.write("b", b"2")
    assert (tmp_path / "flows" / "7" / "a").read_bytes() == b"1"
    assert (tmp_path / "shared" / "team" / "b").read_bytes() == b"2"
    assert (tmp_path / "flows" / "7").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "/tmp", "a\n", "-x", "x" * 65, "ü"])
def test_what_is_no_name_of_a_workspace(tmp_path: Path, name: str) -> None:
    context, _ = make_context(settings={"workspace": str(tmp_path)})

    def enter() -> None:
        with workspace(context, name):
            pass

    assert code_of(enter) == "bad_workspace"


# --- what leads out ---


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../secret",
        "../../secret",
        "../../../secret",
        "sub/../../../../secret",
        "link",
        "absolute",
        "directory/secret",
        "chain",
        "sub/up/../../../secret",
        "..",
        "sub/../..",
    ],
)
def test_nothing_leads_out(files: Files, root: Path, tmp_path: Path, path: str) -> None:
    (root / "sub").mkdir()
    (root / "link").symlink_to("../../../secret")
    (root / "absolute").symlink_to(tmp_path / "secret")
    (root / "directory").symlink_to("../../..")
    (root / "chain").symlink_to("sub/second")
    (root / "sub" / "second").symlink_to("../link")
    (root / "sub" / "up").symlink_to("..")
    assert code_of(lambda: files.read(path)) == "outside_workspace"
    assert code_of(lambda: files.write(path, b"x")) in ("outside_workspace", "not_a_file")
    assert code_of(lambda: files.append(path, b"x")) in ("outside_workspace", "not_a_file")
    assert (tmp_path / "secret").read_text() == SECRET


def test_links_inside_are_followed_for_reading_and_never_replaced(files: Files, root: Path) -> None:
    files.write("data/real.txt", b"content")
    (root / "link").symlink_to("data/real.txt")
    (root / "data" / "back").symlink_to("../data/../link")
    (root / "where").symlink_to("data")
    (root / "dots").symlink_to("./data/..")
    for path in (
        "link",
        "data/back",
        "where/real.txt",
        "dots/link",
        "data/../link",
        "./data//real.txt",
        "dots/./where/../link",
    ):
        assert files.read(path).data == b"content", path
    files.write("where/other.txt", b"2")
    assert (root / "data" / "other.txt").read_bytes() == b"2"
    assert code_of(lambda: files.write("link", b"x")) == "not_a_file"
    assert code_of(lambda: files.append("link", b"x")) == "not_a_file"
    assert (root / "data" / "real.txt").read_bytes() == b"content"


def test_a_circle_of_links_ends(files: Files, root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    assert code_of(lambda: files.read("a")) == "outside_workspace"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("missing", "not_found"),
        ("missing/file", "not_found"),
        ("file/below", "not_a_directory"),
        ("file/", "not_a_directory"),
        ("sub", "not_a_file"),
        ("fifo", "not_a_file"),
        ("nul\0", "bad_path"),
        ("\ud800", "bad_path"),
        ("x" * 300, "bad_path"),
    ],
)
def test_what_can_not_be_read(files: Files, root: Path, path: str, code: str) -> None:
    (root / "sub").mkdir()
    (root / "file").write_text("x")
    os.mkfifo(root / "fifo")
    assert code_of(lambda: files.read(path)) == code


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("file/below", "not_a_directory"),
        ("sub", "not_a_file"),
        ("sub/", "not_a_file"),
        ("fifo", "not_a_file"),
        (UNFINISHED + "x", "bad_path"),
        ("/".join("a" * 200), "bad_path"),
        ("nul\0", "bad_path"),
    ],
)
def test_what_can_not_be_written(files: Files, root: Path, path: str, code: str) -> None:
    (root / "sub").mkdir()
    (root / "file").write_text("x")
    os.mkfifo(root / "fifo")
    assert code_of(lambda: files.write(path, b"x")) == code
    assert code_of(lambda: files.append(path, b"x")) == code


def test_both_ways_of_opening_say_the_same(tmp_path: Path) -> None:
    if not kernel_has_openat2():
        pytest.skip("this kernel has no openat2, or a filter refuses it")
    inside = tmp_path / "in"
    (inside / "a" / "b").mkdir(parents=True)
    (inside / "a" / "file").write_text("x")
    for name, target in [
        ("up", ".."), ("self", "."), ("slash", "a/"), ("fileslash", "a/file/"), ("abs", str(inside / "a")),
        ("out", "../x"), ("dangling", "nothing"), ("deep", "a/b/../../a/file"), ("loop", "loop"), ("a/top", "../a"),
    ]:  # fmt: skip
        (inside / name).symlink_to(target)
    names = [*names_in(inside), "..", ".", "nothing", "file", "b", "top"]
    paths = ["", "/", "//a", *names, *(f"{x}/{y}" for x in names for y in names), *(f"{x}/" for x in names)]
    paths += [f"a/{x}/{y}" for x in names for y in names]
    root = os.open(inside, os.O_PATH)

    def outcome(way: Opener, path: str, flags: int) -> object:
        try:
            found = way(root, path or ".", flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        try:
            return os.fstat(found).st_ino
        finally:
            os.close(found)

    for flags in (os.O_RDONLY, os.O_PATH, os.O_RDONLY | os.O_DIRECTORY, os.O_RDONLY | os.O_NOFOLLOW):
        for path in paths:
            assert outcome(by_kernel, path, flags) == outcome(by_walking, path, flags), (path, flags)
    os.close(root)


def test_a_directory_that_becomes_a_link_meanwhile_leads_nowhere(files: Files, root: Path, tmp_path: Path) -> None:
    """Somebody swaps a directory for a link to the outside all the time, while we read and write through it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text(SECRET)
    (root / "inside").mkdir()
    (root / "inside" / "file").write_text("good")
    (root / "link").symlink_to(outside)
    (root / "place").symlink_to("inside")
    done = threading.Event()

    def swap() -> None:
        number = 0
        while not done.is_set():
            number += 1
            (root / "next").symlink_to(outside if number % 2 else "inside")
            (root / "next").rename(root / "place")

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(1500):
            try:
                seen.add(files.read("place/file").data)
            except Permanent as error:
                seen.add(error.code.encode())
            with suppress(Permanent):
                files.write("place/written", b"x")
    finally:
        done.set()
        swapping.join()
    assert seen == {b"good", b"outside_workspace"}
    assert names_in(outside) == ["file"]


# --- contents ---


def test_reading_parts(files: Files) -> None:
    files.write("f", b"0123456789")
    whole = files.read("f")
    assert (whole.data, whole.size) == (b"0123456789", 10)
    part = files.read("f", 3, 4)
    assert (part.data, part.size, part.version) == (b"3456", 10, None)
    assert files.read("f", 50).data == b""
    assert files.read("f", 0, 100).version == whole.version


def test_limits(files: Files, root: Path) -> None:
    limit = 1024 * 1024
    assert code_of(lambda: files.write("f", b"x" * (limit + 1))) == "too_large"
    files.write("f", b"x" * limit)
    assert code_of(lambda: files.append("f", b"x")) == "too_large"
    with (root / "f").open("ab") as file:
        file.write(b"y")
    assert code_of(lambda: files.read("f")) == "too_large"
    assert files.read("f", limit - 1, 10).data == b"xy"
    assert names_in(root) == ["f"]


def test_a_file_is_replaced_as_a_whole_and_keeps_its_mode(files: Files, root: Path) -> None:
    assert files.write("run.sh", b"one")[1]
    (root / "run.sh").chmod(0o755)
    before = (root / "run.sh").open("rb")
    assert not files.write("run.sh", b"two")[1]
    assert (before.read(), (root / "run.sh").read_bytes()) == (b"one", b"two")
    before.close()
    assert (root / "run.sh").stat().st_mode & 0o777 == 0o755
    assert names_in(root) == ["run.sh"]


def test_versions(files: Files) -> None:
    first, _ = files.write("f", b"1", None)
    assert files.read("f").version == first
    assert code_of(lambda: files.write("f", b"2", None)) == "version_mismatch"
    second, _ = files.write("f", b"2", first)
    assert code_of(lambda: files.write("f", b"3", first)) == "version_mismatch"
    assert code_of(lambda: files.write("g", b"3", second)) == "version_mismatch"
    assert files.read("f").data == b"2"


def test_appends_in_parallel_are_all_there(files: Files, root: Path) -> None:
    lines = [f"{number:03}{'.' * 5000}\n".encode() for number in range(20 * 10)]

    def append(line: bytes) -> None:
        files.append("log/all", line)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(append, lines))
    assert sorted((root / "log" / "all").read_bytes().splitlines(keepends=True)) == lines


def test_counting_by_version_in_parallel_loses_nothing(files: Files) -> None:
    files.write("count", b"0")

    def add() -> None:
        while True:
            seen = files.read("count")
            try:
                files.write("count", str(int(seen.data) + 1).encode(), seen.version)
                return
            except Permanent as error:
                assert error.code == "version_mismatch"

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(add) for _ in range(40)]:
            done.result()
    assert files.read("count").data == b"40"


def test_appends_and_replacements_in_parallel(files: Files) -> None:
    """What was appended before the file was replaced by version is never lost: the version would have been another one."""
    files.write("f", b"")

    def append(number: int) -> None:
        files.append("f", f"{number}\n".encode())

    def tidy(_: int) -> None:
        seen = files.read("f")
        with suppress(Permanent):
            files.write("f", seen.data, seen.version)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(append if n % 2 else tidy, n) for n in range(120)]:
            done.result()
    assert sorted(map(int, files.read("f").data.split())) == list(range(1, 120, 2))


def test_an_append_that_is_interrupted_leaves_nothing(
    files: Files, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.append("f", b"before\n")
    real = os.fsync

    def interrupted(descriptor: int) -> None:
        real(descriptor)
        raise AttemptCancelled

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(AttemptCancelled):
        files.append("f", b"half")
    with pytest.raises(AttemptCancelled):
        files.write("f", b"new")
    assert (root / "f").read_bytes() == b"before\n"
    assert names_in(root) == ["f"]


def test_replacing(files: Files, root: Path) -> None:
    with files.replacing("out/table") as descriptor:
        os.write(descriptor, b"rows")
        assert not (root / "out" / "table").exists()
    assert (root / "out" / "table").read_bytes() == b"rows"
    with pytest.raises(ZeroDivisionError), files.replacing("out/table") as descriptor:
        os.write(descriptor, b"half")
        raise ZeroDivisionError
    assert (root / "out" / "table").read_bytes() == b"rows"
    assert names_in(root / "out") == ["table"]
