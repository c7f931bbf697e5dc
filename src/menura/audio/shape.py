"""Which sample rates and numbers of channels a recording may have, whoever reads it."""

from menura import errors

MIN_RATE, MAX_RATE = 1_000, 768_000
"""Hz: below any telephone's rate, and what the fastest converters record at."""
MAX_CHANNELS = 64


def plausible_shape(sample_rate: int, channels: int) -> bool:
    """Whether a recording may have this sample rate in Hz and number of channels."""
    return MIN_RATE <= sample_rate <= MAX_RATE and 1 <= channels <= MAX_CHANNELS


def check_shape(sample_rate: int, channels: int) -> None:
    """Raise InvalidAudio for a sample rate or a number of channels that no recording has."""
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise errors.InvalidAudio(
            f"The audio claims a sample rate of {sample_rate} Hz; "
            f"{MIN_RATE} to {MAX_RATE} Hz can be read.",
            param="audio",
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise errors.InvalidAudio(
            f"The audio claims {channels} channels; 1 to {MAX_CHANNELS} can be read.",
            param="audio",
        )
