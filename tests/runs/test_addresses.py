"""Which URLs may be called, and which addresses behind their names."""

from __future__ import annotations

import pytest

from proxy.errors import ConfigError, Unprocessable
from proxy.runs.addresses import AllowList

LOOPBACK = (
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.0.0.1.:80/",
    "http://0x7f.1/",
    "http://0x7f000001/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[2002:7f00:1::]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://a.localhost/",
    "http://①②⑦.0.0.1/",
    "http://hooks.example.com@127.0.0.1/",
    "http://127.0.0.1\\@hooks.example.com/",
    "http://hooks.example.com:80@127.0.0.1/",
    "http://127.0.0.1#@hooks.example.com/",
    "http://127.0.0.1?@hooks.example.com/",
)
INSIDE = (
    "10.0.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.1.1",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "0.1.2.3",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "2002:a00:1::",
    "2001::1",
    "2001:db8::1",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "no address",
)
PUBLIC = ("8.8.8.8", "93.184.215.14", "2606:4700:4700::1111")


def allowing(*entries: str) -> AllowList:
    return AllowList(entries, place="webhooks.allow")


def refusal(allowed: AllowList, url: str) -> str:
    with pytest.raises(Unprocessable) as refused:
        allowed.target(url)
    assert refused.value.param == "webhook"
    return refused.value.message


def test_nobody_may_be_called_unless_a_host_is_listed() -> None:
    assert "`webhooks.allow`" in refusal(allowing(), "https://hooks.example.com/")


@pytest.mark.parametrize("url", LOOPBACK)
@pytest.mark.parametrize("entry", ["*", "hooks.example.com"])
def test_no_spelling_of_this_machine_passes(url: str, entry: str) -> None:
    refusal(allowing(entry), url)


@pytest.mark.parametrize("address", INSIDE[:-1])
def test_no_address_inside_passes_by_a_pattern(address: str) -> None:
    refusal(allowing("*"), f"http://[{address}]/" if ":" in address else f"http://{address}/")


@pytest.mark.parametrize("address", [*INSIDE, "127.0.0.1", "::1"])
def test_a_name_that_fits_a_pattern_leads_nowhere_inside(address: str) -> None:
    for allowed in (allowing("*"), allowing("*.example.com")):
        target = allowed.target("https://hooks.example.com/")
        assert allowed.checked(target, PUBLIC) == list(PUBLIC)
        for addresses in ([address], [*PUBLIC, address], [address, *PUBLIC]):
            with pytest.raises(Unprocessable, match="leads to an address"):
                allowed.checked(target, addresses)


def test_a_listed_name_may_lead_into_a_private_network_but_not_to_this_machine_or_metadata() -> None:
    allowed = allowing("hooks.corp.example.com", "n8n:5678")
    for url in ("https://hooks.corp.example.com/", "http://n8n:5678/webhook"):
        target = allowed.target(url)
        allowed.checked(target, ["10.1.2.3", "172.18.0.4", "192.168.0.1", "100.64.0.1", "fd12::1"])
        for address in (
            "127.0.0.1",
            "::1",
            "169.254.169.254",
            "100.100.100.200",
            "fd00:ec2::254",
            "fe80::1",
            "0.0.0.0",
        ):
            with pytest.raises(Unprocessable):
                allowed.checked(target, [address])


def test_localhost_and_addresses_inside_pass_where_they_are_listed_themselves() -> None:
    allowed = allowing("localhost:9000", "127.0.0.1:9001", "[::1]:9002", "10.0.0.1", "fd00::1")
    local = allowed.target("http://LocalHost:9000/x")
    assert allowed.checked(local, ["127.0.0.1", "::1"]) == ["127.0.0.1", "::1"]
    for url in ("http://127.0.0.1:9001/", "http://[::1]:9002/", "http://[0:0::1]:9002/", "https://10.0.0.1/"):
        allowed.target(url)
    assert allowed.target("https://[fd00::1]/").host == "fd00::1"
    for url in ("http://127.0.0.1:9000/", "http://127.0.0.1/", "http://[::1]:9001/", "http://10.0.0.2/"):
        refusal(allowed, url)


def test_a_name_may_lead_to_an_address_that_is_listed_with_its_port() -> None:
    allowed = allowing("*.example.com:9000", "127.0.0.1:9000")
    allowed.checked(allowed.target("http://a.example.com:9000/"), ["127.0.0.1"])
    other = allowing("*.example.com:9000", "127.0.0.1:9001")
    with pytest.raises(Unprocessable):
        other.checked(other.target("http://a.example.com:9000/"), ["127.0.0.1"])


@pytest.mark.parametrize(
    ("entry", "good", "bad"),
    [
        ("hooks.example.com", "https://hooks.example.com/x", "https://hooks.example.com:8443/x"),
        ("hooks.example.com", "http://hooks.example.com", "http://hooks.example.com:443/"),
        ("hooks.example.com:8443", "https://hooks.example.com:8443/x", "https://hooks.example.com/x"),
        ("Hooks.Example.com", "https://HOOKS.example.COM/x", "https://example.com/"),
        ("*.example.com", "https://a.b.example.com/", "https://example.com/"),
        ("*.example.com", "https://a.example.com/", "https://aexample.com/"),
        ("example.com", "https://example.com?x=y", "https://example.com.evil.org/"),
        ("*", "https://8.8.8.8/", "https://8.8.8.8:8443/"),
        ("*:8443", "https://any.example.org:8443/", "https://any.example.org/"),
    ],
)
def test_an_entry_stands_for_its_host_and_port_alone(entry: str, good: str, bad: str) -> None:
    allowed = allowing(entry)
    allowed.target(good)
    assert "`webhooks.allow`" in refusal(allowed, bad)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must begin with"),
        ("/relative", "must begin with"),
        ("//hooks.example.com/", "must begin with"),
        ("hooks.example.com/x", "must begin with"),
        ("ftp://hooks.example.com/", "must begin with"),
        ("file:///etc/passwd", "must begin with"),
        ("javascript://hooks.example.com/", "must begin with"),
        ("https://user@hooks.example.com/", "password"),
        ("https://user:secret@hooks.example.com/", "password"),
        ("https:///x", "host and port"),
        ("https://:443/", "host and port"),
        ("https://hooks.example.com:0/", "host and port"),
        ("https://hooks.example.com:99999/", "host and port"),
        ("https://hooks.example.com:x/", "host and port"),
        ("https://hooks..example.com/", "host and port"),
        ("https://" + "a" * 64 + ".com/", "host and port"),
        ("https://%68ooks.example.com/", "host and port"),
        ("https://[::1/", "host and port"),
        ("https://[v1.x]/", "host and port"),
        ("https://hooks.example.com/a b", "encoded"),
        ("https://hooks.example.com/\r\nX: y", "encoded"),
        ("https://hooks.example.com/\0", "encoded"),
        ("https://höoks.example.com/", "encoded"),
        ("https://hooks.example.com/" + "a" * 3000, "longer than"),
    ],
)
def test_a_bad_url_is_refused_with_its_reason_and_without_its_secrets(url: str, reason: str) -> None:
    message = refusal(allowing("*"), url)
    assert reason in message
    assert "secret" not in message
    assert len(message) < 300


def test_a_target_keeps_path_and_query_and_drops_the_fragment() -> None:
    target = allowing("*").target("HTTPS://Hooks.example.com/a/b?c=d&e#f")
    assert (target.scheme, target.host, target.port, target.path) == ("https", "hooks.example.com", 443, "/a/b?c=d&e")
    assert allowing("*").target("http://hooks.example.com?x").path == "/?x"


@pytest.mark.parametrize(
    "entry",
    ["", "https://hooks.example.com", "hooks.example.com/path", "a b", "h:0", "h:99999", "h:x", "127.1", "*x", "a.*"],
)
def test_an_entry_that_is_no_host_is_a_fault_of_the_config(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"webhooks\.allow\[1\]"):
        allowing("good.example.com", entry)
