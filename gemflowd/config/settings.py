"""Settings: every key once, and what the layers of them come to. `reading.py` reads those layers.

Weakest first: built-in, profile, `gemflowd.toml` (the system's, then the user's or the one named), environment (`PARALLEL_*`, then
`GEMFLOW_<KEY>` over it), command line, and what was changed at run time with `gemflowctl`. All problems are reported at once.
"""

from __future__ import annotations

import grp
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gemflowd.config import mcp
from gemflowd.config.profiles import DEFAULT, profiles
from gemflowd.model.cache import WORDS
from gemflowd.model.errors import Invalid
from gemflowd.model.ids import is_task_id
from gemflowd.model.limit import MAX_NAME, check_figures, plain_name

#: What is wrong with a value, as the end of `workers …`; None: nothing.
Check = Callable[[Any], str | None]


@dataclass(frozen=True, slots=True)
class Between:
    """A check: numbers from `low` to `high`."""

    low: float
    high: float

    def text(self, between: str, scale: float = 1.0) -> str:
        return f"{_figure(self.low * scale)}{between}{_figure(self.high * scale)}"

    def __call__(self, value: float) -> str | None:
        return None if self.low <= value <= self.high else f"must be from {self.text(' to ')}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """A check: some words and no others."""

    words: tuple[str, ...]

    def __call__(self, value: str) -> str | None:
        return None if value in self.words else f"must be one of {', '.join(self.words)}"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key.

    Attributes:
        kind: int, float, bool, str, list (of strings), or dict (a table of a file).
        live: may be changed while the daemon runs.
        for_handlers: handlers may see it.
        reloads: a new value takes effect with a reload, in workers that are started then; so does what handlers see.
        hushed: a value that does not fit is not repeated: somebody may have put a secret there.
    """

    key: str
    kind: type
    default: Any
    unit: str
    doc: str
    check: Check | None = None
    live: bool = False
    for_handlers: bool = False
    reloads: bool = False
    hushed: bool = False

    @property
    def allowed(self) -> str:
        """The values that it may have, in short; empty where the meaning says it."""
        if self.kind is bool:
            return "true, false"
        if isinstance(self.check, Between):
            return self.check.text(" … ")
        return ", ".join(self.check.words) if isinstance(self.check, OneOf) else ""


def _figure(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


#: An index, or a name as `nvidia-smi -L` prints it.
_DEVICE: Final = re.compile(r"(?!auto$|none$)[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")


def _paths_exist(value: list[str]) -> str | None:
    missing = [path for path in value if not Path(path).is_dir()]
    return f"names directories that do not exist: {', '.join(missing)};" if missing else None


def _file_exists(value: str) -> str | None:
    return None if Path(value).is_file() else "must be a file that exists"


def _http(value: str) -> str | None:
    return None if value.startswith(("https://", "http://")) else "must begin with https:// or http://"


def _group(value: str) -> str | None:
    try:
        grp.getgrnam(value)
    except KeyError:
        return "must be a group of this system"
    return None


def _devices(value: list[str]) -> str | None:
    if value in (["auto"], ["none"]):
        return None
    if len(set(value)) == len(value) and value and all(_DEVICE.fullmatch(device) for device in value):
        return None
    return 'must be "auto", "none", or a list of devices such as ["0", "1"], each once,'


def resources_of(value: list[str]) -> dict[str, float]:
    """The named amounts that a list like `["gpu=2"]` gives.

    Raises:
        ValueError: it is malformed.
    """
    found: dict[str, float] = {}
    for part in value:
        name, equals, amount = part.partition("=")
        if not equals or not is_task_id(name) or name in found or not 0 <= float(amount) < 1e9:
            raise ValueError(part)
        found[name] = float(amount)
    return found


def _amounts(value: list[str]) -> str | None:
    try:
        resources_of(value)
    except ValueError as error:
        return f'must be a list like ["gpu=2", "licence=5"], and {str(error)!r} does not fit'
    return None


def _limits(value: dict[str, dict[str, Any]]) -> str | None:
    for name, figures in value.items():
        if not 0 < len(name) <= MAX_NAME:
            return f"has a limit whose name has not 1 to {MAX_NAME} characters;"
        if name != (plain := plain_name(name)) and plain in value:
            return f"has the limits {name!r} and {plain!r}, which are one: leave {name!r} out;"
        try:
            check_figures(figures)
        except ValueError as error:
            return f"has a wrong limit {name!r}: {error};"
    return None


_DAY: Final = 86_400.0
_LONG: Final = Between(1, 365 * _DAY)

SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("profile", str, DEFAULT, "", "named set of workers, task_timeout, memory_mb and batch_size", OneOf(tuple(profiles(1))), True),
    Setting("workers", int, None, "", "blocking tasks at a time", Between(1, 1024), True),
    Setting("batch_size", int, None, "", "coroutines per worker: workers × batch_size model calls at a time", Between(1, 10_000), True),
    Setting("task_timeout", float, None, "s", "for one attempt, where neither task nor handler says", Between(0.001, 30 * _DAY), True),
    Setting("memory_mb", int, None, "MB", "per worker: what runs above it is killed, a worker above it after a task replaced",
            Between(1, 1 << 30), True, for_handlers=True),
    Setting("memory_total_mb", int, 0, "MB", "all workers: above it no blocking task starts; 0: ¾ of the machine's, or the cgroup's",
            Between(0, 1 << 30), True),
    Setting("enabled", bool, True, "", "false: one task at a time, in order", None, True),
    Setting("retries", int, 3, "", "tries after the first, where neither task nor handler says", Between(0, 1000), True),
    Setting("backoff", float, 1.0, "s", "before the first retry at most; doubled with each, at most 5 min", Between(0, 300), True),
    Setting("fair", bool, True, "", "flows of equal priority take turns; false: in order of submission", None, True),
    Setting("ageing", float, 0.0, "s", "of waiting that raise a task's priority by one; 0: never", Between(0, 30 * _DAY)),
    Setting("gpus", list, ["auto"], "", "devices for the resource gpu, such as [\"0\", \"1\"]; auto: all that there are; none", _devices),
    Setting("resources", list, [], "", "named amounts that tasks may ask for: [\"gpu=2\", \"licence=5\"]", _amounts, True),
    Setting("limits", dict, {}, "", 'figures of limits, as in [limits."gemini:gemini-2.5-flash"] rpm = 60', _limits, reloads=True),
    Setting("max_growth_tasks", int, 10_000, "", "tasks that the tasks of a flow may add to it", Between(0, 10_000_000), True),
    Setting("max_growth_depth", int, 100, "", "how deep: tasks added by tasks that were added, and so on", Between(0, 10_000), True),
    Setting("open_expires", float, 86_400.0, "s", "after the last chunk of a flow that stays open, before it is discarded", _LONG, True),
    Setting("crash_limit", int, 3, "", "workers that a task may kill before it is quarantined", Between(1, 100), True),
    Setting("lost_limit", int, 10, "", "unclean ends of the daemon while it ran, before a task is quarantined", Between(1, 1000), True),
    Setting("keep_days", float, 7.0, "days", "for which flows that have ended are kept; 0: for ever", Between(0, 36_500), True),
    Setting("keep_events_hours", float, 72.0, "h", "for which stored events are kept; 0: for ever", Between(0, 876_000), True),
    Setting("max_queued_bytes", int, 8 << 30, "bytes", "inputs of tasks that have not ended; more is refused", Between(1, 1 << 50), True),
    Setting("min_free_mb", int, 64, "MB", "free on the disk, below which submissions are refused", Between(0, 1 << 30), True),
    Setting("max_inputs_mb", int, 64, "MB", "results of dependencies that are handed to one task", Between(1, 1024), True),
    Setting("max_result_mb", int, 16, "MB", "largest result of a task", Between(1, 128), for_handlers=True),
    Setting("memory_max_value_kb", int, 1024, "KB", "largest value in the shared memory", Between(1, 15 * 1024), True),
    Setting("memory_max_mb", int, 256, "MB", "all of it, with keys and 100 bytes for each", Between(1, 65_536), True),
    Setting("cache", str, "auto", "", "of model calls, for `gemini` tasks that do not say; auto: on at temperature 0, else off",
            OneOf(WORDS), for_handlers=True),
    Setting("cache_max_mb", int, 256, "MB", "all of it; what was used longest ago goes first; 0: nothing is stored",
            Between(0, 1 << 20), True),
    Setting("cache_days", float, 30.0, "days", "after its last use, for which a cached answer is kept; 0: for ever",
            Between(0, 36_500), True),
    Setting("grace", float, 10.0, "s", "between asking an attempt to stop and killing it", Between(0.1, 3600), reloads=True),
    Setting("max_tasks", int, 5_000, "", "after which a worker is replaced; 0: never", Between(0, 1 << 30), True),
    Setting("max_age", float, _DAY, "s", "after which a worker is replaced; 0: never", Between(0, 365 * _DAY), True),
    Setting("min_life", float, 10.0, "s", "before which no worker is replaced for its tasks, age or memory after a task",
            Between(0, 3600), True),
    Setting("drain_timeout", float, 30.0, "s", "for running attempts when the daemon is asked to stop", Between(0, _DAY), True),
    Setting("monitoring", bool, True, "", "sample statistics and publish them while someone listens", None, True),
    Setting("default_model", str, "gemini-2.5-flash", "", "for `gemini` tasks that name none", None, True),
    Setting("prices", str, None, "path", "what models cost; default: <config>/prices.toml, if it is there", _file_exists, reloads=True),
    Setting("budget_day", float, 0.0, "currency", "that model calls of one day (UTC) may cost; 0: no limit", Between(0, 1e9), True),
    Setting("budget_day_tokens", int, 0, "tokens", "that they may use; 0: no limit", Between(0, 10**15), True),
    Setting("budget_day_action", str, "hold", "", "what becomes of calls that don't fit", OneOf(("hold", "warn", "cancel")), True),
    Setting("budget_output_tokens", int, 1024, "tokens", "reserved for an answer before any call of its model has ended",
            Between(0, 1_000_000), True, for_handlers=True),
    Setting("gemini_endpoint", str, None, "URL", "of the Gemini API; else GOOGLE_GEMINI_BASE_URL", _http, for_handlers=True),
    Setting("gemini_api_version", str, None, "", "API version in the URL; default: the SDK's", for_handlers=True),
    Setting("gemini_api_key_file", str, None, "path", "file that holds the API key", _file_exists, for_handlers=True, hushed=True),
    Setting("gemini_inline_mb", int, 10, "MB", "files of a `gemini` task that are sent in the request; others are uploaded",
            Between(1, 14), for_handlers=True),
    Setting("gemini_max_file_mb", int, 200, "MB", "largest file of a `gemini` task", Between(1, 2000), for_handlers=True),
    Setting("max_reasks", int, 2, "", "times that a model is asked again when its answer does not fit the schema",
            Between(0, 20), for_handlers=True),
    Setting("batch_items", int, 1000, "", "questions of one batch of `gemini` tasks with the tier batch", Between(1, 10_000), True),
    Setting("batch_wait", float, 60.0, "s", "after its first question, before a batch is sent", Between(0, 86_400), True),
    Setting("batch_poll", float, 60.0, "s", "between two looks at a batch", Between(0.1, 86_400), for_handlers=True),
    Setting("tier_margin", float, 30.0, "s", "before the `deadline` of a `gemini` task: from then on the standard tier is asked",
            Between(0, 86_400), for_handlers=True),
    Setting("gemini_offline", bool, False, "", "a stand-in answers: no key, proxy or Vertex; set by --offline", for_handlers=True),
    Setting("workspace", str, None, "path", "in which tasks have their files; default: workspace in the state directory"),
    Setting("tool_shell", bool, False, "", "let the tool `shell` run what tasks say", for_handlers=True),
    Setting("tool_allow_private_addresses", bool, False, "", "let `fetch_url` ask this machine and private networks", for_handlers=True),
    Setting("tool_max_file_mb", int, 16, "MB", "largest file or page that a tool reads or writes", Between(1, 1024), for_handlers=True),
    Setting("mcp", dict, {}, "", "MCP servers for `mcp` tasks and models: a table [mcp.servers.NAME] each, see docs/tools.md",
            mcp.problem, for_handlers=True, reloads=True, hushed=True),
    Setting("analysis_threads", int, 1, "", "threads of one analysis", Between(1, 256), for_handlers=True),
    Setting("analysis_max_file_mb", int, 1024, "MB", "largest file that an analysis writes", Between(1, 1 << 20), for_handlers=True),
    Setting("handlers", list, [], "", "Python modules with handlers of your own", reloads=True),
    Setting("handler_path", list, [], "paths", "directories in which those modules are looked for", _paths_exist, reloads=True),
    Setting("personas", list, [], "paths", "directories with personas of your own; <config>/personas is always looked at", _paths_exist),
    Setting("socket_group", str, None, "", "group that may use the sockets (mode 0660); default: only the owner (0600)", _group),
    Setting("state_dir", str, None, "path", "database and lease; default: by platform"),
    Setting("endpoint", str, None, "URL", "where clients connect; default: ipc://<runtime-dir>/gemflowd.sock"),
)  # fmt: skip
BY_KEY: Final = {setting.key: setting for setting in SETTINGS}
PROFILE_KEYS: Final = ("workers", "task_timeout", "memory_mb", "batch_size")

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Layer:
    """Values from one place. `origin` names it: a file's path, a variable's name …; per key where they differ."""

    values: Mapping[str, Any]
    origins: Mapping[str, str]


class Settings:
    """The effective settings, each with where it came from. Immutable: a change makes a new one."""

    def __init__(self, layers: list[Layer], run_time: Mapping[str, Any], kept: Layer | None = None) -> None:
        self._layers = layers
        self._kept = kept  # values that stay in force until a restart, whatever the layers say
        self._run_time = {key: value for key, value in run_time.items() if key in BY_KEY}
        stronger = [*layers, Layer(self._run_time, dict.fromkeys(self._run_time, "run time"))]
        if kept is not None:
            stronger.append(kept)
        profile, origin = DEFAULT, "default"
        for layer in stronger:
            if "profile" in layer.values:
                profile, origin = layer.values["profile"], layer.origins["profile"]
        self.values: dict[str, Any] = {setting.key: setting.default for setting in SETTINGS}
        self.origins: dict[str, str] = dict.fromkeys(self.values, "default")
        self.profile_values = profiles()[profile]
        self.values.update(self.profile_values)
        self.origins.update(dict.fromkeys(self.profile_values, "profile"))
        for layer in stronger:
            self.values.update(layer.values)
            self.origins.update({key: layer.origins[key] for key in layer.values})
        self.values["profile"], self.origins["profile"] = profile, origin

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @property
    def run_time(self) -> dict[str, Any]:
        return dict(self._run_time)

    def with_changes(self, changes: Mapping[str, Any]) -> Settings:
        """The settings after changes at run time; None resets a key."""
        merged = {**self._run_time, **changes}
        return Settings(self._layers, {key: value for key, value in merged.items() if value is not None}, self._kept)

    def with_stored(self, stored: Mapping[str, Any]) -> tuple[Settings, list[str]]:
        """The settings after the changes that the store remembers.

        Returns:
            them, and a sentence for each change that this version does not take: another one may have stored it.
        """
        good: dict[str, Any] = {}
        problems: list[str] = []
        for key, value in stored.items():
            try:
                good |= change(self, {key: value}, [])
            except Invalid as error:
                problems.append(f"{key} was changed at run time to what does not count any more: {error.message}")
        return self.with_changes(good), problems

    def keeping(self, other: Settings, keys: list[str]) -> Settings:
        """These settings, with the values that `other` has of some keys."""
        kept = Layer({key: other.values[key] for key in keys}, {key: other.origins[key] for key in keys})
        return Settings(self._layers, self._run_time, kept)

    def shadowed(self) -> list[dict[str, Any]]:
        """Keys of the profile that something stronger overrides."""
        return [
            {"key": key, "value": self.values[key], "origin": self.origins[key]}
            for key in PROFILE_KEYS
            if self.origins[key] != "profile"
        ]

    def table(self) -> list[dict[str, Any]]:
        """Every key with value, origin, unit, default and meaning."""
        return [
            {
                "key": setting.key,
                "value": mcp.shown(self.values["mcp"]) if setting.key == "mcp" else self.values[setting.key],
                "origin": self.origins[setting.key],
                "unit": setting.unit,
                "default": setting.default,
                "allowed": setting.allowed,
                "live": setting.live,
                "doc": setting.doc,
            }
            for setting in SETTINGS
        ]

    def offline(self, endpoint: str) -> Settings:
        """These settings with a stand-in at `endpoint` in place of Gemini, whatever else says."""
        values = {"gemini_endpoint": endpoint, "gemini_offline": True}
        return Settings([*self._layers, Layer(values, dict.fromkeys(values, "--offline"))], self._run_time)

    def for_handlers(self) -> dict[str, Any]:
        """The part that handlers may see."""
        return {setting.key: self.values[setting.key] for setting in SETTINGS if setting.for_handlers}


def convert(setting: Setting, value: Any) -> Any:
    """A value in the setting's type; texts from the environment are read.

    Raises:
        ValueError: with what it must be.
    """
    given = value
    if isinstance(value, str) and setting.kind is not str:
        value = _from_text(setting, value)
    if setting.kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    wrong = not isinstance(value, setting.kind) or (setting.kind is int and isinstance(value, bool))
    if wrong or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"must be {word_of(setting)}, not {_shown(setting, given)}")
    if setting.kind is dict and not all(isinstance(item, dict) for item in value.values()):
        raise ValueError("must be a table of tables")
    if setting.kind is list and not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of strings")
    if setting.check is not None and (problem := setting.check(value)) is not None:
        unit = f" {setting.unit}" if setting.unit and setting.kind in (int, float) else ""
        raise ValueError(f"{problem}{unit}, not {_shown(setting, given)}")
    return value


def _shown(setting: Setting, value: Any) -> str:
    if setting.hushed:
        return "what is there"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def word_of(setting: Setting) -> str:
    """What a value of it is, with its article."""
    return {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a string",
        list: "a list of strings",
        dict: "a table in gemflowd.toml",
    }[setting.kind]


def _from_text(setting: Setting, text: str) -> Any:
    text = text.strip()
    if setting.kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
    elif setting.kind is dict:
        try:
            return json.loads(text)
        except ValueError:
            pass
    elif setting.kind is list:
        return [part for part in (item.strip() for item in text.split(",")) if part]
    elif setting.kind is not dict:
        try:
            return setting.kind(text)
        except ValueError:
            pass
    raise ValueError(f"must be {word_of(setting)}, not {_shown(setting, text)}")


def change(settings: Settings, values: Mapping[str, Any], reset: list[str]) -> dict[str, Any]:
    """Check changes at run time. Returns key -> value, None for a reset.

    Raises:
        Invalid: `not_found` for a key that doesn't exist, `invalid_value`, or `conflict` for one that needs a restart.
    """
    changes: dict[str, Any] = {}
    for key in [*values, *reset]:
        path = f"set.{key}" if key in values else "reset"
        setting = BY_KEY.get(key)
        if setting is None:
            raise Invalid("not_found", f"there is no setting {key!r}; `gemflowctl config` lists them", path)
        if not setting.live:
            raise Invalid(
                "conflict", f"{key} can't be changed while the daemon runs; set it in gemflowd.toml and restart", path
            )
        if key in values:
            try:
                changes[key] = convert(setting, values[key])
            except ValueError as error:
                raise Invalid("invalid_value", f"{key} {error}", path) from None
        else:
            changes[key] = None
    return changes
