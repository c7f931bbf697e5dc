"""Single-use tokens, for clients that should not be given a key."""

from typing import Annotated

from fastapi import APIRouter, Request

from menura.accounts import Principal
from menura.accounts.tokens import TokenType
from menura.api.answer import Answer
from menura.api.auth import permitted, services_of
from menura.api.errors import refusals

router = APIRouter(prefix="/v1/single-use-token", tags=["tokens"])


class Token(Answer):
    """A token, shown once."""

    token: str


@router.post("/{token_type}", responses=refusals(422), summary="Make a single-use token")
async def create_token(
    request: Request, token_type: TokenType, caller: Annotated[Principal, permitted()]
) -> Token:
    """Make a token that is valid for 15 minutes and opens one WebSocket. Only
    `speech_to_speech_live` opens anything on this server."""
    return Token(token=await services_of(request.scope).accounts.tokens.create(caller, token_type))
