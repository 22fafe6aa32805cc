"""`gemflowctl completion SHELL`: the script that makes a shell complete commands and options."""

import click

from gemflowctl.cli import Command


@click.command(
    "completion",
    cls=Command,
    epilog="""
    gemflowctl completion bash > ~/.local/share/bash-completion/completions/gemflowctl
    gemflowctl completion zsh > ~/.zfunc/_gemflowctl
    gemflowctl completion fish > ~/.config/fish/completions/gemflowctl.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(context.find_root().command, {}, "gemflowctl", "_GEMFLOWCTL_COMPLETE").source()
    click.echo(script)
