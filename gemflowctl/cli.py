"""What every command has in common: `--json`, examples under the help, references as arguments."""

from __future__ import annotations

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


class Command(click.Command):
    """A command with `--json`; its `epilog` holds examples and is printed as it stands."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(json_option())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            formatter.write_paragraph()
            formatter.write("Examples:\n")
            for line in self.epilog.strip().splitlines():
                formatter.write(f"  {line.strip()}\n")


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
