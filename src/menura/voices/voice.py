"""What the rest of Menura knows of a voice: its card, not its sound."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from menura.voices.settings import DEFAULTS, VoiceSettings

Category = Literal["premade", "cloned"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A recording a clone was made from.

    size: bytes of the original file. sha256: of the same. seconds: length of its audio.
    """

    sample_id: str
    file_name: str
    mime_type: str
    size: int
    sha256: str
    seconds: float | None
    remove_background_noise: bool
    object_key: str


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice as an account sees it.

    voice_id: as it was asked for, possibly an alias. own_id: the id it is kept under.
    settings: the stored ones, None where the defaults apply. samples: None for a premade voice.
    created_at: Unix seconds, None for a premade voice. consent: what the maker of a clone
    declared about the speaker's consent, None when nothing was declared.
    """

    voice_id: str
    own_id: str
    name: str
    category: Category
    description: str | None
    labels: Mapping[str, str]
    settings: VoiceSettings | None = None
    samples: tuple[Sample, ...] | None = None
    created_at: int | None = None
    created_by: str | None = None
    consent: str | None = None
    recording_quality: str | None = None
    recording_quality_reason: str | None = None

    @property
    def is_premade(self) -> bool:
        """Whether the voice came with Menura and cannot be changed."""
        return self.category == "premade"

    @property
    def effective_settings(self) -> VoiceSettings:
        """The stored settings over the defaults, every key decided."""
        return (self.settings or VoiceSettings()).over(DEFAULTS)
