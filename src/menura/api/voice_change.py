"""What a voice-changer request asks for, and the conversion that follows from it."""

import asyncio
import secrets
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from menura.api.auth import services_of
from menura.api.converting import Converting, Decision
from menura.api.multipart import Field, FormLimits
from menura.api.values import boolean, choice, integer, query_boolean, query_of, repeated
from menura.audio.decode import FILE_FORMATS
from menura.audio.formats import (
    DEFAULT_FORMAT,
    FORMATS,
    STREAM_FORMATS,
    OutputFormat,
    find_format,
)
from menura.conversion.request import MAX_SEED, ConversionRequest, SourcePlan
from menura.engine.interface import LATENCY_PROFILES, RECORDING, Engine, LatencyProfile
from menura.engine.registry import canonical, engine_for
from menura.errors import MenuraError
from menura.history import NewItem
from menura.voices.settings import as_json, parse_voice_settings


@dataclass(frozen=True, slots=True)
class Query:
    """The query of a request, every value decided."""

    output_format: OutputFormat
    enable_logging: bool
    latency: LatencyProfile
    duplex: bool

    @classmethod
    def of(cls, scope: Scope, streaming: bool) -> "Query":
        """Read the query. Raises SchemaViolation."""
        names = {"output_format", "enable_logging", "optimize_streaming_latency"}
        query = query_of(scope, names | {"duplex"} if streaming else names)
        offered = [known.name for known in (STREAM_FORMATS if streaming else FORMATS)]
        name = choice(
            ("query", "output_format"), query.get("output_format", DEFAULT_FORMAT), offered
        )
        output_format = find_format(name)
        assert output_format is not None
        level = integer(
            ("query", "optimize_streaming_latency"),
            query.get("optimize_streaming_latency", "0"),
            0,
            4,
        )
        return cls(
            output_format=output_format,
            enable_logging=query_boolean(query, "enable_logging", True),
            latency=LATENCY_PROFILES[level] if streaming or level else RECORDING,
            duplex=query_boolean(query, "duplex", False),
        )


class VoiceChange(Converting):
    """One request to change a voice."""

    fields = frozenset(
        {"model_id", "voice_settings", "seed", "remove_background_noise", "file_format"}
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, voice_id: str, streaming: bool
    ) -> None:
        services = services_of(scope)
        self._query = Query.of(scope, streaming)
        super().__init__(
            scope,
            receive,
            send,
            form_limits=FormLimits.of(services.settings),
            durations=services.conversion.limits,
            streaming=streaming,
            duplex=self._query.duplex,
            off_disk=not self._query.enable_logging,
        )
        self._voice_id = voice_id
        self._default_model = services.settings.default_model
        self._given: set[str] = set()
        self._model_id: str | None = None
        self._voice_settings: str | None = None
        self._seed: int | None = None
        self._denoise = False
        self._file_format = FILE_FORMATS[0]

    async def run(self) -> None:
        """Serve the request, the voice being looked up meanwhile."""
        self._finding = asyncio.create_task(
            self._services.voices.get(self._principal.account_id, self._voice_id)
        )
        try:
            await super().run()
        finally:
            self._finding.cancel()
            await asyncio.wait({self._finding})
            if not self._finding.cancelled():
                # An unknown voice is no news when something else was refused first.
                self._finding.exception()

    def _take_field(self, field: Field) -> None:
        location = ("body", field.name)
        if field.name in self._given:
            raise repeated(location)
        self._given.add(field.name)
        match field.name:
            case "model_id":
                self._model_id = field.value.strip()
            case "voice_settings":
                self._voice_settings = field.value
            case "seed":
                self._seed = integer(location, field.value, 0, MAX_SEED)
            case "remove_background_noise":
                self._denoise = boolean(location, field.value)
            case "file_format":
                self._file_format = choice(location, field.value, FILE_FORMATS)

    def _guess(self) -> SourcePlan:
        try:
            return self._plan(self._engine())
        except MenuraError:
            return self._plan(engine_for(self._default_model))

    def _engine(self) -> Engine:
        return engine_for(self._model_id or self._default_model)

    def _plan(self, engine: Engine) -> SourcePlan:
        return SourcePlan(
            engine=engine,
            file_format=self._file_format,
            denoise=self._denoise,
            latency=self._query.latency,
        )

    async def _decide(self) -> Decision:
        voice = await self._finding
        engine = self._engine()
        settings = voice.effective_settings
        if self._voice_settings is not None:
            settings = parse_voice_settings(self._voice_settings).over(settings)
        if not self._query.enable_logging:
            self._principal.require_zero_retention()
        self._principal.require_format(self._query.output_format.name)
        seed = self._seed
        request = ConversionRequest(
            source=self._plan(engine),
            voice=await self._services.voices.profile(voice.own_id, engine),
            output_format=self._query.output_format,
            settings=settings.decided(),
            seed=secrets.randbelow(MAX_SEED + 1) if seed is None else seed,
        )
        item = NewItem(
            account_id=self._principal.account_id,
            request_id=self._request_id,
            voice_id=voice.voice_id,
            voice_name=voice.name,
            voice_category=voice.category,
            model_id=canonical(self._model_id or self._default_model),
            content_type=request.output_format.media_type,
            output_format=request.output_format.name,
            settings=as_json(request.settings),
        )
        return Decision(request, "speech_to_speech", item)
