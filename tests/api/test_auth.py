from __future__ import annotations

import asyncio
import hashlib
import http.server
import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from proxy.api.auth import Auth, Caller
from proxy.errors import ConfigError, Unauthorized, Unavailable
from proxy.settings import Jwt, Key, Server

SECRET = "a shared secret of at least thirty-two bytes"
LATER = 4_000_000_000


def bearer(credential: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", f"Bearer {credential}".encode())]


def token(secret: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **claims: Any) -> str:
    headers = {"kid": kid} if kid else None
    return jwt.encode({"exp": LATER, "sub": "ann", **claims}, secret, algorithm, headers=headers)


def test_without_keys_everyone_is_the_default_caller() -> None:
    assert Auth(Server()).check([]) == Caller(tenant="default", forward_user=True)


def test_a_plain_key_belongs_to_the_default_tenant() -> None:
    caller = Auth(Server(api_keys=("sk-a",))).check(bearer("sk-a"))
    assert (caller.name, caller.tenant) == ("default", "default")


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer sk-a")],
        [(b"authorization", b"bearer  sk-a ")],
        [(b"x-api-key", b"sk-a")],
        [(b"authorization", b"Basic dTpw"), (b"x-api-key", b"sk-a")],
        [(b"x-api-key", b"other"), (b"authorization", b"Bearer sk-a")],
    ],
)
def test_a_key_comes_as_a_bearer_or_by_its_own_header(headers: list[tuple[bytes, bytes]]) -> None:
    assert Auth(Server(api_keys=("sk-a",))).check(headers).name == "default"


def test_an_entry_has_its_own_name_and_tenant() -> None:
    keys = (Key(name="team-b", key="b"), Key(name="c", key="c", tenant="shared"), "a")
    auth = Auth(Server(api_keys=keys))
    assert auth.check(bearer("b")).tenant == "team-b"
    assert auth.check(bearer("c")) == Caller(tenant="shared", name="c")
    assert auth.check(bearer("a")).tenant == "default"


def test_keys_may_be_given_as_hashes() -> None:
    digest = hashlib.sha256(b"sk-a").hexdigest()
    for entry in (f"sha256:{digest}", Key(name="n", sha256=digest), Key(name="n", key=f"sha256:{digest.upper()}")):
        auth = Auth(Server(api_keys=(entry,)))
        auth.check(bearer("sk-a"))
        for wrong in (digest, f"sha256:{digest}"):
            with pytest.raises(Unauthorized):
                auth.check(bearer(wrong))


def test_two_keys_of_one_name_are_valid_at_once() -> None:
    auth = Auth(Server(api_keys=(Key(name="a", key="old"), Key(name="a", key="new"))))
    assert auth.check(bearer("old")) == auth.check(bearer("new"))


WRONG = [
    [],
    [(b"authorization", b"")],
    [(b"authorization", b"Bearer")],
    [(b"authorization", b"Bearer ")],
    [(b"authorization", b"sk-right")],
    [(b"authorization", b"Basic sk-right")],
    [(b"authorization", b"Bearer sk-righ")],
    [(b"authorization", b"Bearer sk-right1")],
    [(b"authorization", b"Bearer SK-RIGHT")],
    [(b"authorization", b"Bearer sk-right sk-right")],
    [(b"authorization", b"Bearer sk-right\xff")],
    [(b"authorization", b"Bearer " + b"x" * 100_000)],
    [(b"authorization", b"Bearer ' OR 1=1 --")],
    [(b"x-api-key", b"Bearer sk-right")],
    [(b"cookie", b"authorization=sk-right")],
    [(b"authorization", b"Bearer a.b.c")],
]


@pytest.mark.parametrize("headers", WRONG)
def test_a_wrong_key_is_refused_without_an_echo(headers: list[tuple[bytes, bytes]]) -> None:
    for jwt_settings in (None, Jwt(secret=SECRET)):
        with pytest.raises(Unauthorized) as refused:
            Auth(Server(api_keys=("sk-right",), jwt=jwt_settings)).check(headers)
        assert all(value.decode("latin-1") not in refused.value.message for _, value in headers if len(value) > 7)


def test_near_and_far_misses_take_equal_time() -> None:
    keys = tuple(Key(name=str(number), key=f"sk-{number:030d}") for number in range(5))
    auth = Auth(Server(api_keys=keys))
    misses = {near: bearer(near) for near in ("sk-" + "0" * 29 + "x", "zz-" + "9" * 30)}
    times: dict[str, list[int]] = {near: [] for near in misses}
    for _ in range(5000):
        for near, headers in misses.items():
            began = time.perf_counter_ns()
            with pytest.raises(Unauthorized):
                auth.check(headers)
            times[near].append(time.perf_counter_ns() - began)
    near, far = (statistics.median(taken) for taken in times.values())
    assert 0.7 < near / far < 1.4


@pytest.mark.parametrize(
    ("server", "place"),
    [
        (Server(api_keys=("",)), "$.server.api_keys[0]"),
        (Server(api_keys=("a", Key(name="n"))), "$.server.api_keys[1]"),
        (Server(api_keys=(Key(name="n", key="a", sha256="0" * 64),)), "$.server.api_keys[0]"),
        (Server(api_keys=("sha256:nonsense",)), "$.server.api_keys[0]"),
        (Server(api_keys=("a", Key(name="n", key="a"))), "$.server.api_keys[1]"),
        (Server(jwt=Jwt()), "$.server.jwt"),
        (Server(jwt=Jwt(secret=SECRET, jwks="https://x")), "$.server.jwt"),
        (Server(jwt=Jwt(secret=SECRET, algorithms=("none",))), "$.server.jwt.algorithms"),
        (Server(jwt=Jwt(secret=SECRET, algorithms=("RS256",))), "$.server.jwt.algorithms"),
        (Server(jwt=Jwt(jwks="https://x", algorithms=("RS256", "HS256"))), "$.server.jwt.algorithms"),
        (Server(jwt=Jwt(jwks="file:///etc/passwd")), "$.server.jwt.jwks"),
    ],
)
def test_a_configuration_that_would_open_or_lock_the_door_is_refused(server: Server, place: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Auth(server)
    assert place in refused.value.message


def test_user_headers_count_only_from_keys_that_may_forward_them() -> None:
    auth = Auth(Server(api_keys=("plain", Key(name="webui", key="webui", forward_user=True))))
    forwarded = (b"x-openwebui-user-id", "zoë".encode())
    assert auth.check([*bearer("plain"), forwarded]).user is None
    assert auth.check([*bearer("webui"), forwarded]).user == "zoë"
    assert auth.check(bearer("webui")).user is None
    assert Auth(Server()).check([forwarded]).user == "zoë"


@pytest.mark.parametrize("value", [b"", b"  ", b"\xff\xfe", b"x" * 300, "a\u0085b".encode()])
def test_a_user_that_makes_no_sense_is_nobody(value: bytes) -> None:
    assert Auth(Server()).check([(b"x-user-id", value)]).user is None


def test_a_token_tells_tenant_and_user() -> None:
    auth = Auth(Server(jwt=Jwt(secret=SECRET, tenant_claim="org", audience="us", issuer="them")))
    claims = {"org": "acme", "aud": "us", "iss": "them"}
    assert auth.check(bearer(token(**claims))) == Caller(tenant="acme", name="jwt", user="ann")
    for broken in ({"aud": "you"}, {"iss": "me"}, {"org": ""}, {"org": ["acme"]}, {"exp": 1}, {"nbf": LATER}):
        with pytest.raises(Unauthorized):
            auth.check(bearer(token(**{**claims, **broken})))


def test_keys_and_tokens_work_side_by_side() -> None:
    auth = Auth(Server(api_keys=("sk-a",), jwt=Jwt(secret=SECRET)))
    assert auth.check(bearer("sk-a")).name == "default"
    assert auth.check(bearer(token())).tenant == "default"


def test_the_token_never_picks_its_algorithm() -> None:
    auth = Auth(Server(jwt=Jwt(secret=SECRET)))
    unsigned = jwt.encode({"exp": LATER, "sub": "ann"}, "", algorithm="none")
    for forged in (
        unsigned,
        token(secret=SECRET * 2, algorithm="HS512"),
        token(secret="x" * 40),
        token() + "x",
        token(exp=None),
    ):
        with pytest.raises(Unauthorized):
            auth.check(bearer(forged))


class Issuer(http.server.ThreadingHTTPServer):
    """Publishes keys, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.up = True
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        super().__init__(("127.0.0.1", 0), Publisher)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/keys"


class Publisher(http.server.BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        self.server.asked += 1
        published = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.server.key.public_key()))
        body = json.dumps({"keys": [{**published, "kid": "k1", "use": "sig", "alg": "RS256"}]}).encode()
        self.send_response(200 if self.server.up else 500)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def issuing() -> Iterator[Issuer]:
    with Issuer() as issuer:
        thread = threading.Thread(target=issuer.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield issuer
        finally:
            issuer.shutdown()
            thread.join()


def test_published_keys_are_fetched_once_for_many_tokens() -> None:
    async def go(issuer: Issuer) -> None:
        auth = Auth(Server(api_keys=("sk-a",), jwt=Jwt(jwks=issuer.url)))
        assert auth.remote
        signed = token(issuer.key, "RS256", "k1")
        callers = await asyncio.gather(*(auth.resolve(bearer(signed)) for _ in range(20)))
        assert {caller.user for caller in callers} == {"ann"}
        assert (await auth.resolve(bearer("sk-a"))).name == "default"
        assert issuer.asked == 1

    with issuing() as issuer:
        asyncio.run(go(issuer))


def test_tokens_with_unknown_keys_do_not_make_the_issuer_work() -> None:
    async def go(issuer: Issuer) -> None:
        auth = Auth(Server(jwt=Jwt(jwks=issuer.url)))
        public = issuer.key.public_key().public_numbers().n.to_bytes(256, "big")
        forged = [token(issuer.key, "RS256", f"k{number}") for number in range(2, 30)]
        forged += [token(public, "HS256", "k1"), token(issuer.key, "RS256"), "a.b.c", "nonsense"]
        for credential in forged:
            with pytest.raises(Unauthorized):
                await auth.resolve(bearer(credential))
        assert issuer.asked == 1

    with issuing() as issuer:
        asyncio.run(go(issuer))


def test_an_issuer_that_is_away_is_no_fault_of_the_token() -> None:
    async def go(issuer: Issuer) -> None:
        auth = Auth(Server(jwt=Jwt(jwks=issuer.url)))
        issuer.up = False
        for _ in range(3):
            with pytest.raises(Unavailable):
                await auth.resolve(bearer(token(issuer.key, "RS256", "k1")))
        assert issuer.asked == 1

    with issuing() as issuer:
        asyncio.run(go(issuer))
