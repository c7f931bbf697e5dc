"""`python -m menura.cli` is the command `menura`."""

from menura.cli.main import app

app(prog_name="menura")
