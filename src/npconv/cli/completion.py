"""npconv completion"""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what a shell needs to complete npconv's commands.

    \b
    Examples:
      eval "$(npconv completion bash)"         in ~/.bashrc
      eval "$(npconv completion zsh)"          in ~/.zshrc, after compinit
      npconv completion fish > ~/.config/fish/completions/npconv.fish
    """
    from click.shell_completion import get_completion_class

    from .commands import npconv

    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"this click has no completion for {shell}")
    click.echo(kind(npconv, {}, "npconv", "_NPCONV_COMPLETE").source())
