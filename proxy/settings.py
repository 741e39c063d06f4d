"""What can be set: the shape of `config.yaml`, with its defaults. Loading is `config.py`'s.

All times are in seconds, all sizes in bytes. Imports nothing of ours; any room may read it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Amount = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
Port = Annotated[int, Meta(ge=0, le=65535)]
OnDisconnect = Literal["cancel", "continue"]
Style = Literal["comment", "chunk", "off"]


class Strict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings: a misspelt name is an error, never ignored."""


class Key(Strict, frozen=True):
    """One API key: in plain text (from the environment) or as the hex SHA-256 of it."""

    name: str
    key: str = ""
    sha256: str = ""
    tenant: str = ""
    """Defaults to `name`; keys of one tenant share runs and threads."""
    forward_user: bool = False
    """Believe the user headers (`server.user_headers`) that come with this key."""


class Jwt(Strict, frozen=True):
    """Tokens that somebody else issued: checked by a shared `secret` or by the keys at `jwks`."""

    secret: str = ""
    jwks: str = ""
    issuer: str = ""
    audience: str = ""
    algorithms: tuple[str, ...] = ()
    tenant_claim: str = ""
    user_claim: str = "sub"
    leeway: Seconds = 10.0


class RequestLimits(Strict, frozen=True):
    """What a single request may be, and how much may be left behind by many."""

    body: Count = 20 * 1024 * 1024
    depth: Count = 100
    messages: Count = 2000
    values: Count = 200_000
    """Names and values of a JSON body, and of what is nested in it."""
    read_timeout: Positive = 30.0
    """A request whose headers and body have not arrived by then is dropped."""
    requests: Count = 10_000
    """Requests of one tenant that may be open at once, streams above all. 0 is no bound."""
    threads: Count = 100_000
    """Threads that one tenant may have, and sessions. 0 is no bound."""


class Server(Strict, frozen=True):
    host: str = "127.0.0.1"
    port: Port = 8000
    api_keys: tuple[str | Key, ...] = ()
    jwt: Jwt | None = None
    cors: tuple[str, ...] = ()
    """Origins that browsers may call from; ["*"] for any."""
    root_path: str = ""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses whose X-Forwarded-* headers are believed."""
    user_headers: tuple[str, ...] = ("x-openwebui-user-id", "x-user-id")
    drain: Seconds = 10.0
    limits: RequestLimits = RequestLimits()


class Retention(Strict, frozen=True):
    """Ended runs older than `age`, and all but the newest `count`, are deleted. 0 keeps all."""

    age: Seconds = 30 * 86400.0
    count: Count = 100_000
    every: Positive = 60.0


class Price(Strict, frozen=True):
    """What a model costs per million tokens, in one currency for all models."""

    input: Amount = 0.0
    cached: Amount | None = None
    """For the cached part of the input; as `input` if unset."""
    output: Amount = 0.0


class Runs(Strict, frozen=True):
    timeout: Positive = 600.0
    idle_timeout: Seconds = 0.0
    """Longest silence between two events of an agent; 0 for none."""
    cancel_grace: Positive = 5.0
    """How long an agent may take to stop before it is abandoned."""
    settle_timeout: Positive = 30.0
    """How long the end of a run is retried while the store does not take it."""
    pause_ttl: Positive = 86400.0
    threads: Annotated[int, Meta(ge=1)] = 64
    keep_content: bool = True
    """False: input and events of a run are deleted when it ends; its record stays."""
    expose_errors: bool | None = None
    """Whether the text of an exception of the agent's own reaches the client; unset: on the runs API alone."""
    prices: dict[str, Price] = {}
    """By the name that the model reports in its usage."""
    retention: Retention = Retention()
    log_content: bool = False
    replay_grace: Seconds = 300.0
    """How long the log of a run that was rolled back can still be read."""
    lease: Annotated[float, Meta(ge=0.2)] = 15.0
    """In a shared store: how long a process may be silent before its runs are taken; it renews three times as often."""
    attempts: Annotated[int, Meta(ge=1)] = 3
    """Processes that a run may lose, less one, before it is given up; for agents with `retry: resume`."""


class Limits(Strict, frozen=True):
    """Bounds per tenant and agent, and per run. 0 is no bound."""

    concurrent: Count = 1000
    """Runs of one tenant that wait or are under way, in all processes together."""
    process: Count = 0
    """Runs of all tenants that one process takes from the queue at a time."""
    events: Count = 1_000_000
    log_bytes: Count = 64 * 1024 * 1024
    event_bytes: Count = 4 * 1024 * 1024
    model_calls: Count = 0
    tokens: Count = 0
    cost: Amount = 0.0
    """In the currency of `runs.prices`."""


class Chat(Strict, frozen=True):
    """How the chat dialect (`/v1`) behaves where agent and request say nothing."""

    on_disconnect: OnDisconnect = "cancel"
    keepalive: Seconds = 15.0
    keepalive_style: Style = "comment"
    keepalive_json: bool = False
    """True: answers that do not stream get leading white space while they wait."""
    first_byte: Seconds = 1.0
    send_timeout: Positive = 60.0
    thread_headers: tuple[str, ...] = ("x-thread-id",)
    forward_headers: tuple[str, ...] = ()
    show_cost: bool = False
    """Tell in answers that do not stream what they have cost, in cents of the currency of `runs.prices`."""


class NativeDialect(Strict, frozen=True):
    """How a dialect of the runs API behaves where a request says nothing."""

    on_disconnect: OnDisconnect = "continue"
    keepalive: Positive = 5.0
    send_timeout: Positive = 60.0
    multitask_strategy: Literal["reject", "enqueue", "interrupt", "rollback"] = "enqueue"
    forward_headers: tuple[str, ...] = ()


class WorkflowDialect(Strict, frozen=True):
    """How the workflow dialect (`/api/v1`) behaves."""

    keepalive: Positive = 15.0
    send_timeout: Positive = 60.0
    concurrent: Count = 1000
    """Workflow runs of one tenant that may be under way at once, also while they wait. 0 is no bound."""


class DeerFlowDialect(NativeDialect, frozen=True):
    """The same with DeerFlow's defaults, also for what a config does not set of it."""

    on_disconnect: OnDisconnect = "cancel"
    keepalive: Positive = 15.0
    multitask_strategy: Literal["reject", "enqueue", "interrupt", "rollback"] = "reject"


class Dialects(Strict, frozen=True):
    """`langgraph` is the runs API at the root, `deerflow` the same under `/api`."""

    chat: Chat = Chat()
    langgraph: NativeDialect = NativeDialect()
    deerflow: DeerFlowDialect = DeerFlowDialect()
    workflows: WorkflowDialect = WorkflowDialect()


class Webhooks(Strict, frozen=True):
    """Who may be called when a run has ended. Nobody, unless a host is listed."""

    allow: tuple[str, ...] = ()
    """Hosts, as `hooks.example.com`, `*.example.com` or `127.0.0.1:9000`; a listed loopback or private address is
    allowed."""
    secret: str = ""
    """Signs each call; without it calls are not signed."""
    timeout: Positive = 10.0
    attempts: Annotated[int, Meta(ge=1)] = 5


class Show(Strict, frozen=True):
    """What a chat client sees besides the answer."""

    tools: Literal["hidden", "reasoning", "details"] = "hidden"
    reasoning: Literal["field", "reasoning", "think", "off"] = "field"
    """As `reasoning_content`, as `reasoning`, in `<think>` tags within the text, or not at all."""


class Agent(Strict, frozen=True):
    """One entry of `agents`: an adapter with its options, and how its runs behave."""

    adapter: str
    options: dict[str, Any] = {}
    description: str = ""
    enabled: str | bool = True
    """An empty string (say, from an unset variable), "false", "no", "off" or "0" leave the agent out."""
    streaming: bool = True
    history: Literal["full", "last"] = "full"
    client_tools: Literal["", "pass", "offer", "ignore"] = ""
    interrupts: Literal["text", "tool_calls"] = "text"
    show: Show = Show()
    on_disconnect: OnDisconnect | None = None
    keepalive: Seconds | None = None
    keepalive_style: Style | None = None
    first_byte: Seconds | None = None
    timeout: Positive | None = None
    idle_timeout: Seconds | None = None
    max_steps: Annotated[int, Meta(ge=1)] | None = None
    expose_errors: bool | None = None
    limits: Limits = Limits()
    execute: Literal["server", "worker"] = "server"
    """Who runs it: `worker` leaves all its runs to `runwire worker`, and servers need not import it; with `server`,
    workers take only what nobody waits for at once (background, enqueued, delayed, cron), if there are any."""
    retry: Literal["fail", "resume"] = "fail"
    """What becomes of a run whose process was lost: it fails, or goes on from where the agent can."""


class Worker(Strict, frozen=True):
    """How much one process takes from the queue."""

    concurrent: Annotated[int, Meta(ge=1)] = 100
    """Runs from the queue that one process has under way at most; how many of one agent, `limits.process` says."""


class Logs(Strict, frozen=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Settings(Strict, frozen=True):
    """The whole of `config.yaml`."""

    agents: dict[str, Agent]
    store: str = "sqlite:///runs.db"
    live: str = ""
    """`redis://...` carries what is new between the processes of a shared store faster than the store does."""
    migrate: bool = True
    """Bring the store's schema up to date at the start; if not, `runwire migrate` has to."""
    worker: Worker = Worker()
    server: Server = Server()
    runs: Runs = Runs()
    dialects: Dialects = Dialects()
    webhooks: Webhooks = Webhooks()
    log: Logs = Logs()
    folder: str = "."
    """Where relative paths start; set to the config file's folder on loading."""

    @property
    def shared(self) -> bool:
        """Several processes may use the store at once."""
        return self.store.partition("://")[0] in ("postgres", "postgresql", "postgresql+psycopg")


def contradictions(settings: Settings) -> list[tuple[str, str]]:
    """Settings that do not go together: what is wrong with its cure, and the place."""
    if settings.shared:
        return []
    kind = settings.store.partition(":")[0]
    cure = f"`store` is {kind}, which belongs to one process; set it to postgresql://..."
    found = [(f"`live` carries news between processes, and {cure}", "$.live")] if settings.live else []
    return found + [
        (f"`execute: worker` leaves the runs to other processes, and {cure}", f"$.agents.{name}.execute")
        for name, agent in settings.agents.items()
        if agent.execute == "worker"
    ]
