"""Who is calling, and what they may do."""

from dataclasses import dataclass

from menura.errors import MissingPermissions
from menura.settings import Tier

PERMISSIONS = (
    "speech_to_speech",
    "audio_isolation",
    "voices_read",
    "voices_write",
    "create_instant_voice_clone",
    "models_read",
    "speech_history_read",
    "speech_history_write",
    "user_read",
    "workspace_read",
    "workspace_write",
)
"""The contract's permission names that guard something here."""


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    permissions: null means all. character_limit: credits a month of this key alone.
    concurrency: parallel requests allowed to the account. key_concurrency: to this key alone.
    is_limited: whether the key itself has a limit: of credits, of requests, of addresses, of time.
    hint: the first characters of the key. client_host: address it was used from, if known.
    """

    account_id: str
    workspace_id: str
    key_id: str
    key_name: str
    hint: str
    tier_name: str
    tier: Tier
    permissions: frozenset[str] | None
    character_limit: int | None
    key_concurrency: int | None
    is_limited: bool
    client_host: str | None = None

    @property
    def concurrency(self) -> int:
        """How many requests of the account may run at once."""
        return self.tier.concurrency

    def may(self, permission: str) -> bool:
        """Tell whether the key has a permission."""
        return self.permissions is None or permission in self.permissions

    def require(self, permission: str) -> None:
        """Raise MissingPermissions unless the key has the permission."""
        if not self.may(permission):
            raise MissingPermissions(
                f"The API key you used is missing the permission {permission} "
                "to execute this operation."
            )
