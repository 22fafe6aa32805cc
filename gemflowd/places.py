"""Where this daemon keeps things: by its settings, by systemd (`STATE_DIRECTORY` …), else by platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gemflowd.config.settings import Settings
from gemflowd.model.calls import uses_vertex
from gemflowd.protocol import endpoints


@dataclass(frozen=True, slots=True)
class Places:
    state: Path
    endpoint: str
    workspace: Path

    @property
    def events(self) -> str:
        return endpoints.events_endpoint(self.endpoint)

    @property
    def database(self) -> Path:
        return self.state / "gemflow.db"


def config_dir(environ: Mapping[str, str]) -> Path:
    given = environ.get("CONFIGURATION_DIRECTORY", "").split(":")[0]
    return Path(given) if given else endpoints.config_dir()


def config_files(environ: Mapping[str, str]) -> list[Path]:
    """The usual places of `gemflowd.toml`, weakest first."""
    site = endpoints.SYSTEM_CONFIG
    return list(dict.fromkeys([site / "gemflowd.toml", config_dir(environ) / "gemflowd.toml"]))


def prices_file(settings: Settings, environ: Mapping[str, str]) -> Path | None:
    """The table of prices: the one that is named, else the user's or the system's, if there is one."""
    if settings["prices"] is not None:
        return Path(settings["prices"])
    usual = [config_dir(environ) / "prices.toml", endpoints.SYSTEM_CONFIG / "prices.toml"]
    return next((path for path in usual if path.exists()), None)


def places(settings: Settings, environ: Mapping[str, str]) -> Places:
    state = settings["state_dir"] or environ.get("STATE_DIRECTORY", "").split(":")[0]
    endpoint = settings["endpoint"]
    if endpoint is None:
        runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        endpoint = f"ipc://{(Path(runtime) if runtime else endpoints.runtime_dir()) / endpoints.SOCKET}"
    directory = Path(state).absolute() if state else endpoints.state_dir()
    workspace = settings["workspace"]
    return Places(directory, endpoint, Path(workspace).absolute() if workspace else directory / "workspace")


def key_is_set(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether there is a key for Gemini, or another way in. Looks at nothing but its presence: workers read it."""
    names = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
    credential = Path(environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"), "gemini-api-key")
    return (
        uses_vertex(environ)
        or any(environ.get(name) for name in names)
        or settings["gemini_api_key_file"] is not None
        or credential.exists()
    )
