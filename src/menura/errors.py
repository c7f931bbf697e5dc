"""Every refusal Menura can give, one class each, in the contract's words.

    MenuraError
    ├── InvalidInput            400 validation_error
    │   ├── ModelNotFound           model_not_found
    │   ├── UnsupportedModel        unsupported_model
    │   ├── InvalidVoiceSettings    invalid_voice_settings
    │   ├── InvalidParameters       invalid_parameters
    │   ├── InvalidAudio            invalid_audio
    │   ├── InvalidAudioFormat      invalid_audio_format
    │   ├── AudioTooLong            audio_too_long
    │   ├── AudioTooShort           audio_too_short
    │   ├── InvalidPageSize         invalid_page_size
    │   ├── InvalidCursor           invalid_cursor
    │   └── MissingRequiredField    missing_required_field
    ├── InvalidRequest          400 invalid_request
    │   ├── RequestTooLarge         request_too_large
    │   ├── InvalidContentType      invalid_content_type
    │   ├── MalformedJson           malformed_json
    │   ├── VoiceLimitReached       voice_limit_reached
    │   ├── BadRequest              bad_request
    │   └── RangeNotSatisfiable     range_not_satisfiable, 416
    ├── SchemaViolation         422 (validation list)
    ├── NotAuthenticated        401 authentication_error
    │   ├── MissingApiKey           missing_api_key
    │   ├── InvalidApiKey           invalid_api_key
    │   ├── InvalidAuthorization    invalid_authorization_header
    │   └── MissingPermissions      missing_permissions
    ├── InsufficientCredits     401 payment_required insufficient_credits
    ├── NotAllowed              403 authorization_error
    │   ├── OutputFormatNotAllowed  output_format_not_allowed
    │   ├── FeatureNotAvailable     feature_not_available
    │   └── VoiceAccessDenied       voice_access_denied
    ├── NotFound                404 not_found
    │   ├── VoiceNotFound           voice_not_found
    │   ├── SampleNotFound          sample_not_found
    │   └── HistoryItemNotFound     history_item_not_found
    ├── Conflict                409 conflict already_processing
    ├── TooMany                 429 rate_limit_error
    │   ├── ConcurrencyExceeded     concurrent_limit_exceeded
    │   └── SystemBusy              system_busy
    └── Unavailable             503 service_unavailable

The HTTP status stands here and nowhere else, so that a change of the contract is one line.
"""

import json
from collections.abc import Sequence
from typing import Any, ClassVar

_SHOWN = 60


def shown(value: object) -> str:
    """Return a value as refusals name it, its beginning alone if it is long: a text in quotes,
    anything else as JSON has it."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if isinstance(text, str):
        return repr(_beginning(text))
    written = ""
    # Piece by piece: the whole may be a megabyte, or nested deeper than can be written.
    for piece in json.JSONEncoder().iterencode(text):
        written += piece
        if len(written) > _SHOWN:
            break
    return _beginning(written)


def _beginning(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


class MenuraError(Exception):
    """A refusal, ready to be told to a client.

    `message` is one plain sentence that names the offending value; it must hold no secret.
    """

    http: ClassVar[int] = 500
    type: ClassVar[str] = "internal_error"
    code: ClassVar[str] = "internal_error"
    legacy: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after

    def body(self, request_id: str) -> dict[str, Any]:
        """Return the JSON body: the current shape, a superset of the legacy one."""
        detail: dict[str, Any] = {
            "type": self.type,
            "code": self.code,
            "message": self.message,
            "status": self.legacy or self.code,
            "request_id": request_id,
        }
        if self.param is not None:
            detail["param"] = self.param
        return {"detail": detail}


class InvalidInput(MenuraError):
    http = 400
    type = "validation_error"
    code = "invalid_parameters"


class ModelNotFound(InvalidInput):
    code = "model_not_found"


class UnsupportedModel(InvalidInput):
    code = "unsupported_model"


class InvalidVoiceSettings(InvalidInput):
    code = "invalid_voice_settings"


class InvalidParameters(InvalidInput):
    code = "invalid_parameters"


class InvalidAudio(InvalidInput):
    code = "invalid_audio"


class InvalidAudioFormat(InvalidInput):
    code = "invalid_audio_format"


class AudioTooLong(InvalidInput):
    code = "audio_too_long"


class AudioTooShort(InvalidInput):
    code = "audio_too_short"


class InvalidPageSize(InvalidInput):
    code = "invalid_page_size"


class InvalidCursor(InvalidInput):
    code = "invalid_cursor"


class MissingRequiredField(InvalidInput):
    code = "missing_required_field"


class InvalidRequest(MenuraError):
    http = 400
    type = "invalid_request"
    code = "bad_request"


class RequestTooLarge(InvalidRequest):
    code = "request_too_large"


class InvalidContentType(InvalidRequest):
    code = "invalid_content_type"


class MalformedJson(InvalidRequest):
    code = "malformed_json"


class VoiceLimitReached(InvalidRequest):
    code = "voice_limit_reached"


class BadRequest(InvalidRequest):
    code = "bad_request"


class RangeNotSatisfiable(InvalidRequest):
    http = 416
    code = "range_not_satisfiable"


class SchemaViolation(MenuraError):
    """The request does not fit the declared schema; answered as a validation list."""

    http = 422
    type = "validation_error"
    code = "unprocessable_entity"

    def __init__(self, location: Sequence[str | int], message: str, kind: str) -> None:
        super().__init__(message)
        self.location = tuple(location)
        self.kind = kind

    def body(self, request_id: str) -> dict[str, Any]:
        return {"detail": [{"loc": list(self.location), "msg": self.message, "type": self.kind}]}


class NotAuthenticated(MenuraError):
    http = 401
    type = "authentication_error"
    code = "invalid_api_key"


class MissingApiKey(NotAuthenticated):
    code = "missing_api_key"
    legacy = "needs_authorization"


class InvalidApiKey(NotAuthenticated):
    code = "invalid_api_key"


class InvalidAuthorization(NotAuthenticated):
    code = "invalid_authorization_header"


class MissingPermissions(NotAuthenticated):
    code = "missing_permissions"


class InsufficientCredits(MenuraError):
    http = 401
    type = "payment_required"
    code = "insufficient_credits"
    legacy = "quota_exceeded"


class NotAllowed(MenuraError):
    http = 403
    type = "authorization_error"
    code = "feature_not_available"


class OutputFormatNotAllowed(NotAllowed):
    code = "output_format_not_allowed"


class FeatureNotAvailable(NotAllowed):
    code = "feature_not_available"


class VoiceAccessDenied(NotAllowed):
    code = "voice_access_denied"


class NotFound(MenuraError):
    http = 404
    type = "not_found"
    code = "not_found"


class VoiceNotFound(NotFound):
    code = "voice_not_found"


class SampleNotFound(NotFound):
    code = "sample_not_found"


class HistoryItemNotFound(NotFound):
    code = "history_item_not_found"


class Conflict(MenuraError):
    http = 409
    type = "conflict"
    code = "already_processing"


class TooMany(MenuraError):
    http = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class ConcurrencyExceeded(TooMany):
    code = "concurrent_limit_exceeded"
    legacy = "too_many_concurrent_requests"


class SystemBusy(TooMany):
    code = "system_busy"


class Unavailable(MenuraError):
    http = 503
    type = "service_unavailable"
    code = "service_unavailable"
