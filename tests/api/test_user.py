"""The account over HTTP, as the official SDK reads it."""

import time
from collections.abc import Callable

from elevenlabs.types import Subscription, User
from tests.conftest import RunningServer

from menura.accounts import Charge
from menura.settings import UNLIMITED, Tier


def test_the_user_parses_with_the_official_type(shared_server: RunningServer) -> None:
    body = shared_server.client.get("/v1/user").json()
    parsed = User.model_validate(body)
    assert parsed.subscription.tier == "enterprise"
    assert set(User.model_fields) <= set(body)
    assert shared_server.api_key not in str(body)
    assert body["xi_api_key"] is None
    assert body["xi_api_key_preview"].rstrip(".") in shared_server.api_key


def test_the_subscription_parses_with_the_official_type(shared_server: RunningServer) -> None:
    body = shared_server.client.get("/v1/user/subscription").json()
    parsed = Subscription.model_validate(body)
    assert parsed.character_limit == UNLIMITED
    assert parsed.can_use_instant_voice_cloning is True
    assert body["open_invoices"] == []
    assert body["has_open_invoices"] is False
    assert time.time() < body["next_character_count_reset_unix"] < time.time() + 32 * 86_400


def test_credits_and_limits_are_those_of_the_tier(server: Callable[..., RunningServer]) -> None:
    tiers = {"small": Tier(concurrency=1, credits=500, voices=3)}
    started = server(tiers=tiers, default_tier="small")
    accounts = started.services.accounts
    caller = started.run(accounts.keys.authenticate(started.api_key))
    started.run(accounts.credits.charge(Charge(caller, "r", 120, 7.2, "speech_to_speech")))
    body = started.client.get("/v1/user/subscription").json()
    assert (body["tier"], body["character_count"], body["character_limit"]) == ("small", 120, 500)
    assert (body["voice_slots_used"], body["voice_limit"]) == (0, 3)
    assert started.client.get("/v1/user").json()["subscription"]["character_count"] == 120
