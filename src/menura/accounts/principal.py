"""Who is calling, and what they may do."""

from collections.abc import Sequence
from dataclasses import dataclass

from menura.errors import FeatureNotAvailable, MissingPermissions, OutputFormatNotAllowed
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

IDLE_PERMISSIONS = (
    "text_to_speech",
    "speech_to_text",
    "models_write",
    "voice_collections_read",
    "voice_collections_write",
    "sound_generation",
    "voice_generation",
    "dubbing_read",
    "dubbing_write",
    "pronunciation_dictionaries_read",
    "pronunciation_dictionaries_write",
    "user_write",
    "projects_read",
    "projects_write",
    "audio_native_read",
    "audio_native_write",
    "forced_alignment",
    "convai_read",
    "convai_write",
    "agents_architect",
    "music_generation",
    "image_video_generation",
    "flows",
    "templates",
    "add_voice_from_voice_library",
    "create_professional_voice_clone",
    "publish_voice_to_voice_library",
    "share_voice_externally",
    "create_user_api_key",
    "workspace_analytics_full_read",
    "webhooks_write",
    "service_account_write",
    "group_members_manage",
    "workspace_members_read",
    "workspace_members_invite",
    "workspace_members_remove",
    "terms_of_service_accept",
    "audit_log_read",
    "conversation_privacy_manage",
    "copy_resources_cross_workspace",
    "synthid_detector",
)
"""Those that guard nothing here: what makes keys for the paid API may name them."""


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    permissions: null means all. character_limit: credits a month of this key alone.
    key_concurrency: parallel requests allowed to this key alone.
    is_limited: whether the key itself has a limit: of credits, of requests, of addresses, of time.
    hint: the first characters of the key. client_host: address it was used from, if known.
    """

    account_id: str
    workspace_id: str
    key_id: str
    hint: str
    tier_name: str
    tier: Tier
    permissions: frozenset[str] | None
    character_limit: int | None
    key_concurrency: int | None
    is_limited: bool
    client_host: str | None = None

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

    def require_all(self, permissions: Sequence[str] | None) -> None:
        """Raise MissingPermissions unless the key has what another one may do, null for all."""
        if permissions is None and self.permissions is not None:
            raise MissingPermissions(
                "A key without all permissions cannot make or change one that has all."
            )
        for permission in permissions or ():
            self.require(permission)

    def require_zero_retention(self) -> None:
        """Raise FeatureNotAvailable unless the tier may send `enable_logging=false`."""
        if not self.tier.zero_retention:
            raise FeatureNotAvailable(
                f"enable_logging=false (zero retention) is not part of the tier {self.tier_name}.",
                param="enable_logging",
            )

    def require_format(self, output_format: str) -> None:
        """Raise OutputFormatNotAllowed if the tier denies a format of that name."""
        if output_format in self.tier.formats_denied:
            raise OutputFormatNotAllowed(
                f"The output format {output_format} is not part of the tier {self.tier_name}.",
                param="output_format",
            )
