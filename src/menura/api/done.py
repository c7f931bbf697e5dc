"""The answer of a route that did what it was asked and has nothing else to tell."""

from typing import Literal

from menura.api.answer import Answer


class Done(Answer):
    """The thing was done."""

    status: Literal["ok"] = "ok"
