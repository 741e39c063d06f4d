"""What can go wrong, by meaning. `api/errors.py` renders these, one function per API family.

    ProxyError
    ├── BadRequest            400
    │   └── Unprocessable     422
    ├── Unauthorized          401
    ├── Forbidden             403
    ├── NotFound              404
    │   └── UnknownAgent      404
    ├── NotAllowed            405
    ├── Conflict              409
    │   ├── Busy
    │   ├── NotWaiting
    │   └── NotCancellable
    ├── TooSlow               408
    ├── TooLarge              413
    │   └── HeadersTooLarge   431
    ├── Unsupported           415
    ├── TooMany               429
    │   └── TooManyThreads    429
    ├── Unavailable           503
    │   └── Draining
    ├── UpstreamError         502
    │   ├── UpstreamTimeout   504
    │   ├── UpstreamRefused   502
    │   ├── StreamIncomplete  502
    │   └── RateLimited       429
    ├── AdapterMissing        501
    ├── RunFailed
    ├── RunLimit              500
    ├── RunTimeout            504
    ├── LogTrimmed            410
    ├── LeaseLost             503
    └── ConfigError

The text of a `ProxyError` may be shown to a client; no secret, URL or foreign text belongs in it.
"""

from __future__ import annotations


class ProxyError(Exception):
    """Base of all errors a client may be told about."""

    status = 500
    code = "internal_error"
    retryable = False

    def __init__(self, message: str = "", *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message or (self.__doc__ or "").strip().splitlines()[0]
        self.param = param
        self.retry_after = retry_after


class BadRequest(ProxyError):
    """The request cannot be understood."""

    status = 400
    code = "invalid_request"


class Unprocessable(BadRequest):
    """The request is well formed, but cannot be honoured."""

    status = 422
    code = "unprocessable"


class Unauthorized(ProxyError):
    """The API key is missing or wrong."""

    status = 401
    code = "invalid_api_key"


class Forbidden(ProxyError):
    """This key may not do that."""

    status = 403
    code = "forbidden"


class NotFound(ProxyError):
    """There is no such thing here."""

    status = 404
    code = "not_found"


class UnknownAgent(NotFound):
    """There is no model of that name."""

    code = "model_not_found"


class NotAllowed(ProxyError):
    """The path exists, but not for this method; `allow` names those it is for."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class Conflict(ProxyError):
    """The state of things does not allow it now."""

    status = 409
    code = "conflict"


class Busy(Conflict):
    """The thread has a run already; `run_id` names it."""

    code = "thread_busy"

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class NotWaiting(Conflict):
    """Nothing waits for this answer."""

    code = "not_waiting"


class NotCancellable(Conflict):
    """The run has ended already."""

    code = "not_cancellable"


class TooSlow(ProxyError):
    """The request did not arrive in time."""

    status = 408
    code = "request_timeout"
    retryable = True


class TooLarge(ProxyError):
    """The request is larger than allowed."""

    status = 413
    code = "request_too_large"


class HeadersTooLarge(TooLarge):
    """The headers of the request are larger than allowed."""

    status = 431
    code = "headers_too_large"


class Unsupported(ProxyError):
    """The request body has a form that is not read here."""

    status = 415
    code = "unsupported_media_type"


class TooMany(ProxyError):
    """A limit on work under way is reached; ask again after `retry_after` seconds."""

    status = 429
    code = "too_many_runs"
    retryable = True


class TooManyThreads(TooMany):
    """There are as many threads as a tenant may have; some have to be deleted first."""

    code = "too_many_threads"
    retryable = False


class Unavailable(ProxyError):
    """The server cannot take work now."""

    status = 503
    code = "unavailable"
    retryable = True


class Draining(Unavailable):
    """The server is shutting down."""

    code = "server_shutting_down"


class UpstreamError(ProxyError):
    """The model behind the agent failed."""

    status = 502
    code = "llm_error"
    retryable = True


class UpstreamTimeout(UpstreamError):
    """The model behind the agent did not answer in time."""

    status = 504
    code = "llm_timeout"


class UpstreamRefused(UpstreamError):
    """The model behind the agent refused our credentials."""

    status = 502
    code = "llm_authentication"
    retryable = False


class StreamIncomplete(UpstreamError):
    """The model's answer broke off in the middle."""

    code = "stream_incomplete"


class RateLimited(UpstreamError):
    """The model behind the agent is overloaded or a quota is used up."""

    status = 429
    code = "llm_rate_limit"


class AdapterMissing(ProxyError):
    """Workers run this agent, and only its adapter, which this server cannot load, could tell."""

    status = 501
    code = "adapter_missing"


class RunFailed(ProxyError):
    """A run ended in failure; says what its last entry says."""

    def __init__(
        self, code: str, message: str, *, status: int, retryable: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.code = code
        self.status = status
        self.retryable = retryable


class RunLimit(ProxyError):
    """The run went over one of its limits."""

    status = 500
    code = "run_limit"


class RunTimeout(ProxyError):
    """The run took longer than it may."""

    status = 504
    code = "run_timeout"
    retryable = True


class LogTrimmed(ProxyError):
    """Entries after this position are no longer kept."""

    status = 410
    code = "log_trimmed"


class LeaseLost(ProxyError):
    """This process lost its lease and takes a new one; ask again."""

    status = 503
    code = "unavailable"
    retryable = True


class ConfigError(ProxyError):
    """The configuration is wrong; the message names the place and the cure."""

    code = "config_error"
