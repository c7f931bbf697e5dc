"""Every setting of the server: from flags, the environment, one settings file, or the defaults.

Order of precedence: command-line flag, environment variable (`MENURA_` and the upper-case name),
`menura.toml` (in the data folder, or the file that `MENURA_CONFIG` names), default.
"""

import ipaddress
import math
import os
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from menura.audio.formats import find_format

UNLIMITED = 2_147_483_647
"""What the contract reports as the limit of an account without one."""


def usable_cores(groups: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self")) -> int:
    """Return how many cores this process may use: those it is bound to, and no more than the share
    of the machine's time that a container or a service gets (Linux's control groups, version 2)."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    # Where nothing limits, there is no file, or "max" stands for a number.
    with suppress(OSError, ValueError):
        group = (process / "cgroup").read_text("ascii").rpartition("::/")[2].strip()
        time, period = (groups / group / "cpu.max").read_text("ascii").split()
        cores = min(cores, math.ceil(int(time) / int(period)))
    return cores


def default_data_folder() -> Path:
    """Return the folder used when none is named: `$XDG_DATA_HOME/menura` or its like.

    Raises UnreadableSettingsError.
    """
    base = os.environ.get("XDG_DATA_HOME")
    return Path(base) / "menura" if base else of_home(Path("~/.local/share/menura"))


class UnreadableSettingsError(ValueError):
    """The settings file is not there or not what it should be; the text says why, plainly."""


def of_home(path: Path) -> Path:
    """Return a path with the home folder in the place of `~`. Raises UnreadableSettingsError."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise UnreadableSettingsError(
            f"There is no home folder to look for {str(path)!r} in: name a whole path, for example "
            "in MENURA_DATA."
        ) from None


class SettingsFile(TomlConfigSettingsSource):
    """The settings file, with or without the mark that editors of Windows begin a text with."""

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        return tomllib.loads(file_path.read_text(encoding="utf-8-sig"))


class Tier(BaseModel):
    """What an account of this tier may do.

    formats_denied: output formats refused with 403. concurrency: parallel requests.
    credits: per calendar month. zero_retention: may send `enable_logging=false`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: int = Field(ge=1)
    credits: int = Field(ge=0, default=UNLIMITED)
    formats_denied: tuple[str, ...] = ()
    zero_retention: bool = False
    voices: int = Field(ge=0, default=UNLIMITED)

    @field_validator("formats_denied")
    @classmethod
    def _known(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for name in given:
            if find_format(name) is None:
                raise ValueError(f"there is no output format {name!r}")
        return given


_HI_PCM = ("pcm_44100", "pcm_48000", "wav_44100", "wav_48000")
_HI_MP3 = ("mp3_44100_192",)

DEFAULT_TIERS: dict[str, Tier] = {
    "free": Tier(concurrency=2, credits=10_000, formats_denied=_HI_PCM + _HI_MP3, voices=3),
    "starter": Tier(concurrency=3, credits=30_000, formats_denied=_HI_PCM + _HI_MP3, voices=10),
    "creator": Tier(concurrency=5, credits=100_000, formats_denied=_HI_PCM, voices=30),
    "pro": Tier(concurrency=10, credits=500_000, voices=160),
    "scale": Tier(concurrency=15, credits=2_000_000, voices=660),
    "business": Tier(concurrency=15, credits=11_000_000, voices=660),
    "enterprise": Tier(concurrency=64, zero_retention=True),
}


class Settings(BaseSettings):
    """The settings of one server process. Each field's description is its documentation."""

    model_config = SettingsConfigDict(
        env_prefix="MENURA_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        allow_inf_nan=False,
        extra="ignore",
        frozen=True,
    )

    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on; loopback unless changed."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    data: Path = Field(
        default_factory=default_data_folder,
        description="Data folder: database, audio, the first API key.",
    )
    database_url: str | None = Field(
        None, description="URL of the database; else SQLite in the data folder."
    )
    objects_url: str | None = Field(
        None, description="URL of the object store (file, s3, gs, az); else the data folder."
    )
    ssl_certfile: Path | None = Field(
        None,
        description="Certificate for https; without https only localhost gets the microphone.",
    )
    ssl_keyfile: Path | None = Field(None, description="Private key of ssl_certfile.")
    base_url: str | None = Field(
        None,
        description="Public address, for links such as preview_url; else the host a request names.",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks of reverse proxies, separated by commas, whose "
        "X-Forwarded-For and X-Forwarded-Proto are believed.",
    )
    region: str = Field("local", description="Value of the x-region header.")
    default_tier: str = Field("enterprise", description="Tier of the local account.")
    tiers: dict[str, Tier] = Field(
        default_factory=lambda: dict(DEFAULT_TIERS),
        description="Tiers by name; what is given changes the built-in ones or adds to them.",
    )
    max_upload_bytes: int = Field(
        52_428_800, ge=0, description="Largest upload of one request; 0 lifts the limit."
    )
    max_seconds: float = Field(
        300.5, ge=0, description="Longest audio of one conversion in seconds; 0 lifts the limit."
    )
    max_voice_files: int = Field(25, ge=1, description="Most recordings of one cloned voice.")
    max_voice_seconds: float = Field(
        3600.0,
        ge=0,
        description="Longest audio of one cloned voice in seconds, summed; 0 lifts the limit.",
    )
    max_isolation_upload_bytes: int = Field(
        524_288_000, ge=0, description="Largest upload of audio isolation; 0 lifts the limit."
    )
    max_isolation_seconds: float = Field(
        3600.5, ge=0, description="Longest audio of audio isolation in seconds; 0 lifts the limit."
    )
    min_seconds: float = Field(
        0.1, ge=0, description="Shortest audio of one conversion in seconds."
    )
    upload_idle_timeout: float = Field(
        30.0, gt=0, description="Seconds without a byte after which an upload is given up."
    )
    upload_min_rate: int = Field(
        256,
        ge=0,
        description="Bytes per second an upload must average once `upload_rate_grace` is over.",
    )
    upload_rate_grace: float = Field(
        60.0, ge=0, description="Seconds of an upload before `upload_min_rate` applies to it."
    )
    answer_stall_timeout: float = Field(
        120.0,
        gt=0,
        description="Seconds without reading any of its answer after which a client is given up.",
    )
    max_streams: int = Field(
        64, ge=1, description="Most conversions at once in this process, all accounts together."
    )
    queue_seconds: float = Field(
        0.5,
        ge=0,
        description="Seconds a request over its concurrency limit waits before it gets 429.",
    )
    cores: int = Field(
        default_factory=usable_cores,
        ge=1,
        description="Most streams that compute at the same time.",
    )
    processes: int | None = Field(
        None,
        ge=1,
        description="Most processes that convert; else as many as `cores`. Further ones serve "
        "streams that run at once.",
    )
    spool_memory_bytes: int = Field(
        1_048_576,
        ge=0,
        description="Bytes of an upload or answer held in memory; the rest is in a temporary file.",
    )
    default_model: str = Field(
        "eleven_english_sts_v2", description="Model used when a request names none."
    )

    @field_validator("data", "ssl_certfile", "ssl_keyfile")
    @classmethod
    def _of_home(cls, given: Path | None) -> Path | None:
        return given and of_home(given)

    @field_validator("region")
    @classmethod
    def _fit_for_a_header(cls, given: str) -> str:
        if not given.strip().isprintable():
            raise ValueError("it must be one line of visible characters")
        return given.strip()

    @field_validator("base_url")
    @classmethod
    def _an_address(cls, given: str | None) -> str | None:
        if given is not None:
            parts = urlsplit(given)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("it must begin with http:// or https:// and name a host")
        return given

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, given: str) -> str:
        for part in filter(None, (part.strip() for part in given.split(","))):
            try:
                ipaddress.ip_network(part)
            except ValueError as error:
                raise ValueError(f"{part!r} is no address or network: {error}") from None
        return given

    @field_validator("tiers", mode="before")
    @classmethod
    def _beside_the_built_in(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        tiers: dict[str, Any] = dict(DEFAULT_TIERS)
        for name, tier in given.items():
            if name in tiers and isinstance(tier, Mapping):
                tiers[name] = {**tiers[name].model_dump(), **tier}
            else:
                tiers[name] = tier
        return tiers

    @model_validator(mode="after")
    def _one_of_the_tiers(self) -> Self:
        if self.default_tier not in self.tiers:
            known = ", ".join(self.tiers)
            raise ValueError(f"default_tier is {self.default_tier!r}, but the tiers are {known}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read flags, the environment, the settings file. Raises UnreadableSettingsError."""
        named = os.environ.get("MENURA_CONFIG")
        given = init_settings().get("data")
        folder = Path(given or os.environ.get("MENURA_DATA") or default_data_folder())
        path = of_home(Path(named) if named else folder / "menura.toml")
        if named and not os.path.isfile(path):  # false where a folder is closed to us
            raise UnreadableSettingsError(
                f"MENURA_CONFIG names {named!r}, which is no file that can be read."
            )
        try:
            held = SettingsFile(settings_cls, toml_file=path)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UnreadableSettingsError(f"{path} cannot be read: {error}.") from None
        unknown = sorted(set(held.toml_data) - set(cls.model_fields))
        if unknown:
            raise UnreadableSettingsError(f"{path}: there is no setting {unknown[0]!r}.")
        return (init_settings, env_settings, held)
