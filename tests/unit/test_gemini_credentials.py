"""Where the key comes from, and that it goes nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemflowd.handlers.errors import Permanent
from gemflowd.handlers.gemini.credentials import connection
from gemflowd.model.calls import uses_vertex

KEY = "AIzaSyTheKeyThatNobodyMaySee0123456789"


def test_the_order_of_places(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    (tmp_path / "gemini-api-key").write_text("from-systemd\n")
    settings = {"gemini_api_key_file": str(tmp_path / "key")}
    environment = {"GOOGLE_API_KEY": "google", "GEMINI_API_KEY": "gemini", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert connection(settings, environment).key == "google"
    del environment["GOOGLE_API_KEY"]
    assert connection(settings, environment).key == "gemini"
    environment["GEMINI_API_KEY"] = " "
    assert connection(settings, environment).key == "from-file"
    assert connection({}, environment).key == "from-systemd"


def test_without_a_key_the_message_says_what_to_do(tmp_path: Path) -> None:
    for environment in ({}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}):
        with pytest.raises(Permanent) as caught:
            connection({"gemini_api_key_file": None}, environment)
        assert caught.value.code == "no_api_key"
        for word in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "gemini_api_key_file", "--offline"):
            assert word in caught.value.message


def test_a_key_file_that_does_not_help(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "two").write_text(f"{KEY}\n{KEY}\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, code in [
        ("missing", "no_api_key"),
        ("empty", "no_api_key"),
        ("binary", "no_api_key"),
        ("two", "bad_api_key"),
    ]:
        with pytest.raises(Permanent) as caught:
            connection({"gemini_api_key_file": str(tmp_path / name)}, {})
        assert caught.value.code == code
        assert KEY not in caught.value.message


def test_offline_never_touches_the_real_key() -> None:
    found = connection({"gemini_offline": True, "gemini_endpoint": "http://127.0.0.1:1"}, {"GEMINI_API_KEY": KEY})
    assert found.offline
    assert found.key is not None
    assert KEY not in found.key


def test_vertex_needs_no_key() -> None:
    environment = {"GOOGLE_GENAI_USE_VERTEXAI": "True", "GEMINI_API_KEY": KEY}
    assert uses_vertex(environment)
    assert connection({}, environment).key is None
    assert not uses_vertex({"GOOGLE_GENAI_USE_VERTEXAI": "0"})


def test_the_key_is_scrubbed_and_not_shown() -> None:
    found = connection({}, {"GEMINI_API_KEY": "odd-key-42"})
    assert "odd-key-42" not in repr(found)
    text = f"bad odd-key-42 in https://x/?key=other-key&a=1 and {KEY}!"
    scrubbed = found.scrub(text)
    assert scrubbed == "bad [key removed] in https://x/?key=[key removed]&a=1 and [key removed]!"
