"""The caller's account and its subscription."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Request

from menura.accounts import Principal
from menura.accounts.credits import next_reset
from menura.api.answer import Answer
from menura.api.auth import permitted, services_of
from menura.api.errors import refusals
from menura.services import Services

router = APIRouter(prefix="/v1/user", tags=["user"])


class Overage(Answer):
    """What credits beyond the limit cost; nothing here."""

    amount: str = "0"
    currency: str = "usd"


class Subscription(Answer):
    """What the account may use, and what it has used this month."""

    tier: str
    character_count: int
    character_limit: int
    max_character_limit_extension: int | None = None
    max_credit_limit_extension: int = 0
    can_extend_character_limit: bool = False
    allowed_to_extend_character_limit: bool = False
    next_character_count_reset_unix: int
    voice_slots_used: int
    professional_voice_slots_used: int = 0
    professional_voice_slots_used_in_workspace: int = 0
    voice_limit: int
    max_voice_add_edits: int | None = None
    voice_add_edit_counter: int = 0
    professional_voice_limit: int = 0
    can_extend_voice_limit: bool = False
    can_use_instant_voice_cloning: bool = True
    can_use_professional_voice_cloning: bool = False
    currency: str | None = "usd"
    current_overage: Overage = Overage()
    status: str = "active"
    billing_period: str | None = "monthly_period"
    character_refresh_period: str | None = "monthly_period"


class SubscriptionWithInvoices(Subscription):
    """The subscription as its own endpoint gives it."""

    next_invoice: None = None
    open_invoices: tuple[None, ...] = ()
    has_open_invoices: bool = False
    pending_change: None = None


class User(Answer):
    """The caller's account."""

    user_id: str
    workspace_id: str
    subscription: Subscription
    subscription_extras: None = None
    is_new_user: bool = False
    xi_api_key: None = None
    xi_api_key_preview: str
    is_api_key_hashed: bool = True
    can_use_delayed_payment_methods: bool = False
    is_onboarding_completed: bool = True
    is_onboarding_checklist_completed: bool = True
    show_compliance_terms: bool = False
    first_name: str | None = None
    referral_link_code: None = None
    partnerstack_partner_default_link: None = None
    created_at: int
    seat_type: str = "workspace_admin"


@router.get("", responses=refusals(), summary="The caller's account")
async def get_user(request: Request, caller: Annotated[Principal, permitted("user_read")]) -> User:
    """Return the account that the key belongs to."""
    services = services_of(request.scope)
    account = await services.accounts.account(caller)
    return User(
        user_id=account.account_id,
        workspace_id=account.workspace_id,
        subscription=Subscription(**await _numbers(services, caller)),
        xi_api_key_preview=f"{caller.hint}...",
        created_at=account.created_at,
    )


@router.get("/subscription", responses=refusals(), summary="The account's subscription")
async def get_subscription(
    request: Request, caller: Annotated[Principal, permitted("user_read")]
) -> SubscriptionWithInvoices:
    """Return what the account may use, and what it has used this month."""
    return SubscriptionWithInvoices(**await _numbers(services_of(request.scope), caller))


async def _numbers(services: Services, caller: Principal) -> dict[str, Any]:
    return {
        "tier": caller.tier_name,
        "character_count": await services.accounts.credits.used(caller.account_id),
        "character_limit": caller.tier.credits,
        "next_character_count_reset_unix": next_reset(time.time()),
        "voice_slots_used": await services.voices.count(caller.account_id),
        "voice_limit": caller.tier.voices,
    }
