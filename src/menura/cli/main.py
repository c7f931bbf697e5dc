"""The command `menura`."""

import io
import sys
from typing import Annotated

import typer

from menura import __version__
from menura.cli import backup, convert, doctor, keys, serve, voices
from menura.cli.options import console

app = typer.Typer(
    no_args_is_help=True,
    # Tracebacks with local variables would show keys.
    pretty_exceptions_show_locals=False,
    help="Menura, a self-hosted streaming voice changer.",
)
app.command("serve")(serve.serve)
app.command("convert")(convert.convert)
app.command("doctor")(doctor.doctor)
app.command("backup")(backup.backup)
app.add_typer(voices.app, name="voices")
app.add_typer(keys.app, name="keys")


def _tell_version(wanted: bool) -> None:
    if wanted:
        console.print(__version__, highlight=False)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Menura, a self-hosted streaming voice changer."""
    # Names hold letters that a pipe of Windows, or of few languages, has not.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
