"""examples/handlers-package, installed as a package of its own and run by a real daemon."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from helpers.daemon import Daemon, environment, running
from helpers.raw import Raw, Refusal

PACKAGE = Path(__file__).parents[2] / "examples" / "handlers-package"


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/gone" else 200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site-packages")
    how = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    source = tmp_path_factory.mktemp("source") / "package"  # a build leaves nothing in the checkout
    subprocess.run(["cp", "-r", PACKAGE, source], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", *how, "--target", target, source], check=True, timeout=100)
    return target


@pytest.fixture(scope="module")
def daemon(place: Path) -> Iterator[Daemon]:
    with running(workers=1, handler_path=[str(place)]) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_its_own_tests_pass(place: Path, tmp_path: Path) -> None:
    env = environment(PYTHONPATH=f"{place}:{Path(__file__).parents[2]}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PACKAGE / "tests")]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, timeout=100, stdout=subprocess.DEVNULL)


def test_the_catalogue_says_where_they_are_from(client: Raw) -> None:
    found = {item["type"]: item for item in client("handlers")["handlers"]}
    assert (found["count-words"]["kind"], found["fetch-page"]["kind"]) == ("blocking", "coroutine")
    assert found["fetch-page"]["module"] == "example_handlers.fetch"
    assert found["fetch-page"]["package"] == "gemflow-example-handlers 1.0"
    assert found["echo"]["package"] is None


def test_words_are_counted(client: Raw, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("a b a")
    (line,) = client.run({"type": "count-words", "data": {"paths": [str(path)]}})
    assert line["result"] == {"words": 3, "common": {"a": 2, "b": 1}}
    (said,) = client("logs", ref=line["number"])["lines"]
    assert (said["stream"], said["text"]) == ("stdout", f"{path} is read")
    (line,) = client.run({"type": "count-words", "data": {"paths": ["/nowhere"]}})
    assert (line["state"], line["error"]["code"], line["attempts"]) == ("failed", "no_such_file", 1)


def test_pages_are_fetched_once(client: Raw, site: str) -> None:
    first, gone = client.run(
        {"type": "fetch-page", "data": {"url": f"{site}/a"}}, {"type": "fetch-page", "data": {"url": f"{site}/gone"}}
    )
    assert first["result"] == {"status": 200, "text": "hello", "cached": False}
    assert gone["error"]["code"] == "gone"
    (again,) = client.run({"type": "fetch-page", "data": {"url": f"{site}/a"}})
    assert again["result"]["cached"] is True


@pytest.mark.parametrize(
    ("kind", "data", "path"),
    [
        ("count-words", {"paths": "no list"}, "paths"),
        ("count-words", {"paths": ["a", 1]}, "paths[1]"),
        ("fetch-page", {"url": "ftp://x"}, "url"),
        ("fetch-page", {"url": "http://x", "timeout": 0}, "timeout"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_submitted(client: Raw, kind: str, data: dict, path: str) -> None:
    with pytest.raises(Refusal) as refused:
        client.submit({"type": kind, "data": data})
    assert (refused.value.code, refused.value.path) == ("invalid_data", f"tasks[0].data.{path}")
