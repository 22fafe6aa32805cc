"""What every command has in common: `--json`, examples under the help, groups, references as arguments."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from gemflowctl.errors import InvalidInput
from gemflowctl.session import session_of


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        session_of(context).console.as_json = True


def json_option() -> click.Option:
    """`--json`, on the group and on every command."""
    return click.Option(
        ["--json"],
        is_flag=True,
        expose_value=False,
        callback=_set_json,
        is_eager=True,
        help="Write JSON, one object a line.",
    )


def _write_examples(formatter: click.HelpFormatter, epilog: str | None) -> None:
    if epilog:
        formatter.write_paragraph()
        formatter.write("Examples:\n")
        for line in epilog.strip().splitlines():
            formatter.write(f"  {line.strip()}\n")


class Command(click.Command):
    """A command with `--json`; its `epilog` holds examples and is printed as it stands."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(json_option())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(formatter, self.epilog)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed; with `--json` and examples as `Command`.

    Args:
        table: every command and the module that has it, as `command`.
    """

    def __init__(self, *args: Any, table: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table
        self.params.append(json_option())

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._table, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = self._table.get(cmd_name)
        if module is None:
            return super().get_command(ctx, cmd_name)
        command = import_module(module).command
        assert isinstance(command, click.Command)
        return command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(formatter, self.epilog)


class RefType(click.ParamType[str]):
    """A reference to tasks or flows."""

    name = "ref"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from gemflowctl.refs import check

        try:
            return check(value)
        except InvalidInput as problem:
            self.fail(problem.message, param, ctx)


class DurationType(click.ParamType[float]):
    """Seconds, written as `90`, `90s`, `10m`, `2h` or `1d`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from gemflowctl.times import parse_duration

        try:
            return value if isinstance(value, float) else parse_duration(str(value))
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


REF = RefType()
DURATION = DurationType()
