"""The answer of a route that did what it was asked and has nothing else to tell."""

from typing import Literal

from pydantic import BaseModel


class Done(BaseModel):
    """The thing was done."""

    status: Literal["ok"] = "ok"
