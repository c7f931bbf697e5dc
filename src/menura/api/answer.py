"""What the routes answer with, as the OpenAPI document describes it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """An answer of which every key is always sent; without this the document would call those with
    a default optional, and clients made from it would ask whether they are there."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class Done(Answer):
    """The thing was done."""

    status: Literal["ok"] = "ok"
