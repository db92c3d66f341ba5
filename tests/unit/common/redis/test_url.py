"""Redis URLs: what is understood, what is refused, and that a password is never repeated."""

from __future__ import annotations

import traceback
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.redis.url import RedisURL, TLSOptions, parse_redis_url

DEFAULT_DB = 7


def watched(**other: Any) -> RedisURL:
    """What is said of a group that sentinels watch."""
    usual = RedisURL(topology="sentinel", host="s1", port=26379, master="mymaster", db=DEFAULT_DB)
    return attrs.evolve(usual, **other)


def clustered(**other: Any) -> RedisURL:
    """What is said of a cluster."""
    return attrs.evolve(RedisURL(topology="cluster", host="h1", db=0), **other)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis://localhost", RedisURL(db=7)),
        ("redis://localhost/", RedisURL(db=7)),
        ("redis://", RedisURL(db=7)),
        ("redis:///3", RedisURL(db=3)),
        ("REDIS://LOCALHOST:6379/0", RedisURL(db=0)),
        ("redis://:6380/0", RedisURL(port=6380, db=0)),
        ("redis://redis.internal:6380/2", RedisURL(host="redis.internal", port=6380, db=2)),
        ("redis://redis_1:/2/", RedisURL(host="redis_1", db=2)),
        ("redis://h/%32", RedisURL(host="h", db=2)),
        ("redis://h?db=4", RedisURL(host="h", db=4)),
        ("redis://h/4?db=4", RedisURL(host="h", db=4)),
        ("redis://h?db=", RedisURL(host="h", db=7)),
        ("redis://[::1]:6380/1", RedisURL(host="::1", port=6380, db=1)),
        ("redis://user:p%40%2F%3a%23%25@h/0", RedisURL(host="h", db=0, username="user", password="p@/:#%")),
        ("redis://:pass@h/0", RedisURL(host="h", db=0, password="pass")),
        ("redis://:p@ss@h/0", RedisURL(host="h", db=0, password="p@ss")),
        ("redis://user@h/0", RedisURL(host="h", db=0, username="user")),
        ("redis://h/0?username=u&password=p", RedisURL(host="h", db=0, username="u", password="p")),
        ("unix:///run/redis/redis.sock", RedisURL(scheme="unix", path="/run/redis/redis.sock", db=7)),
        ("unix:///run/redis.sock?db=2", RedisURL(scheme="unix", path="/run/redis.sock", db=2)),
        ("unix://u:p@/run/r%20s?db=2", RedisURL(scheme="unix", path="/run/r s", db=2, username="u", password="p")),
        ("rediss://h/0", RedisURL(scheme="rediss", host="h", db=0, tls=TLSOptions())),
        ("redis+sentinel://s1/mymaster", watched()),
        ("REDIS+Sentinel://s1/mymaster/", watched()),
        ("redis+sentinel://s1/mymaster/0/", watched(db=0)),
        ("redis+sentinel://s1/mymaster?db=2", watched(db=2)),
        ("redis+sentinel://s1/my-master%2F1", watched(master="my-master/1")),
        ("redis+sentinel://s1,s2:26380,s1:26379/mymaster", watched(further=(("s2", 26380),))),
        (
            "redis+sentinel://u:p,q@[::1],[fe80::2]:1,10.0.0.3/mymaster/2",
            watched(host="::1", further=(("fe80::2", 1), ("10.0.0.3", 26379)), db=2, username="u", password="p,q"),
        ),
        (
            "redis+sentinel://:p@s1/mymaster?sentinel_username=su&sentinel_password=s%40p",
            watched(password="p", sentinel_username="su", sentinel_password="s@p"),
        ),
        (
            "rediss+sentinel://s1/mymaster?ssl_ca_certs=/ca",
            watched(scheme="rediss", tls=TLSOptions(ca_file="/ca")),
        ),
        ("redis+cluster://h1", clustered()),
        ("redis+cluster://h1/0", clustered()),
        ("redis+cluster://h1/?db=0", clustered()),
        ("redis+cluster://h1,h2:7001,[::1]:7002", clustered(further=(("h2", 7001), ("::1", 7002)))),
        ("redis+cluster://u:p@h1?pubsub=sharded", clustered(username="u", password="p", pubsub="sharded")),
        ("redis+cluster://h1?pubsub=both", clustered(pubsub="both")),
        ("redis+cluster://h1?pubsub=", clustered()),
        ("rediss+cluster://h1", clustered(scheme="rediss", tls=TLSOptions())),
    ],
)
def test_what_a_url_says(text: str, url: RedisURL) -> None:
    assert parse_redis_url(text, DEFAULT_DB) == url


@pytest.mark.parametrize(
    ("query", "tls"),
    [
        ("ssl_cert_reqs=required", TLSOptions()),
        ("ssl_cert_reqs=optional", TLSOptions()),
        ("ssl_cert_reqs=none", TLSOptions(verify=False, check_hostname=False)),
        ("ssl_cert_reqs=CERT_NONE", TLSOptions(verify=False, check_hostname=False)),
        ("ssl_cert_reqs=none&ssl_check_hostname=true", TLSOptions(verify=False, check_hostname=False)),
        ("skip_verify=true", TLSOptions(verify=False, check_hostname=False)),
        ("skip_verify=1&ssl_cert_reqs=none", TLSOptions(verify=False, check_hostname=False)),
        ("skip_verify=false", TLSOptions()),
        ("ssl_check_hostname=False", TLSOptions(check_hostname=False)),
        ("ssl_ca_certs=/etc/ca.pem", TLSOptions(ca_file="/etc/ca.pem")),
        ("ssl_certfile=/c.pem&ssl_keyfile=%2Fk.pem", TLSOptions(cert_file="/c.pem", key_file="/k.pem")),
        ("ssl_ca_certs=&ssl_cert_reqs=", TLSOptions()),
    ],
)
def test_tls_options(query: str, tls: TLSOptions) -> None:
    url = parse_redis_url(f"rediss://h/0?{query}", DEFAULT_DB)
    assert url.tls == tls
    assert url.ignored == ()


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        ("redis://h/0?protocol=3&db=0&read_timeout=3s", ("protocol", "read_timeout")),
        ("redis://h/0?health_check_interval=30s", ("health_check_interval",)),
        ("redis://h/0?flag", ("flag",)),
        ("redis://h/0?skip_verify=true", ("skip_verify",)),
        ("unix:///r?ssl_cert_reqs=nonsense", ("ssl_cert_reqs",)),
        ("rediss://h/0?max_retries=x", ("max_retries",)),
        ("redis://h/0?sentinel_password=x", ("sentinel_password",)),
        ("redis+cluster://h?sentinel_username=x&ssl_ca_certs=y", ("sentinel_username", "ssl_ca_certs")),
        ("rediss+sentinel://h/m?socket_timeout=1", ("socket_timeout",)),
    ],
)
def test_options_without_a_meaning_are_named(text: str, ignored: tuple[str, ...]) -> None:
    assert parse_redis_url(text, DEFAULT_DB).ignored == ignored


BAD = {
    "": "must start with redis://",
    "localhost:6379": "must start with redis://",
    "http://h/0": "must start with redis://",
    "redis:/h": "must start with redis://",
    "redis:// h/0": "no spaces",
    "redis://h/0\n": "no spaces and no control characters",
    "redis://h/two": "must be one number",
    "redis://h/1/2": "must be one number",
    "redis://h//": "must be one number",
    "redis://h/-1": "must be one number",
    "redis://h/+1": "must be one number",
    "redis://h/1.0": "must be one number",
    "redis://h/1_0": "must be one number",
    "redis://h/٢": "must be one number",
    "redis://h/9999999999": "must be one number",
    "redis://h?db=two": "must be one number",
    "redis://h?db=-1": "must be one number",
    "redis://h/1?db=2": "two databases",
    "redis://h?db=1&db=2": "db is given twice",
    "redis://h:0/0": "port must be 1 to 65535",
    "redis://h:65536/0": "host or port",
    "redis://h:-1/0": "host or port",
    "redis://h:port/0": "host or port",
    "redis://::1:6379/0": "host or port",
    "redis://[::1/0": "host or port",
    "redis://a,b/0": "neither a name nor an address",
    "redis://%2Frun%2Fsock/0": "neither a name nor an address",
    "redis://h%00/0": "neither a name nor an address",
    "redis://:%FF@h/0": "not UTF-8",
    "unix://": "absolute path",
    "unix:///": "absolute path",
    "unix://run/redis.sock": "absolute path",
    "unix:///run/redis/": "absolute path",
    "unix:///run/a%00b": "absolute path",
    "unix:///run/redis.sock?db=two": "must be one number",
    "rediss://h/0?ssl_cert_reqs=maybe": "ssl_cert_reqs must be",
    "rediss://h/0?ssl_check_hostname=maybe": "ssl_check_hostname must be",
    "rediss://h/0?skip_verify=maybe": "skip_verify must be",
    "rediss://h/0?skip_verify=true&ssl_cert_reqs=required": "contradict",
    "rediss://h/0?ssl_keyfile=/k": "needs ssl_certfile",
    "redis+unix:///run/r": "must start with redis://",
    "redis+sentinel:/h/m": "must start with redis://",
    "redis+sentinel://h": "names its master",
    "redis+sentinel://h/": "names its master",
    "redis+sentinel://h//2": "names its master",
    "redis+sentinel://h/a%20b": "names its master",
    "redis+sentinel://h/a%00": "names its master",
    "redis+sentinel://h/%FF": "names its master",
    "redis+sentinel://h/m/two": "must be one number",
    "redis+sentinel://h/m/1/2": "must be one number",
    "redis+sentinel://h/m/1?db=2": "two databases",
    "redis+sentinel:///m": "each host must be named",
    "redis+sentinel://:26379/m": "each host must be named",
    "redis+sentinel://u:p@/m": "each host must be named",
    "redis+sentinel://a,/m": "each host must be named",
    "redis+sentinel://a,,b/m": "each host must be named",
    "redis+sentinel://a,b:0/m": "port must be 1 to 65535",
    "redis+sentinel://a,b:65536/m": "host or port",
    "redis+sentinel://fe80::1,fe80::2/m": "host or port",
    "redis+sentinel://[::1,::2]/m": "host or port",
    "redis+sentinel://a,b%2C/m": "neither a name nor an address",
    "redis+sentinel://h/m?sentinel_password=%FF": "not UTF-8",
    "redis+sentinel://h/m?sentinel_password=a&sentinel_password=b": "sentinel_password is given twice",
    "redis+sentinel://h/m?pubsub=classic": "pubsub is for a cluster",
    "redis://h?pubsub=sharded": "pubsub is for a cluster",
    "unix:///r?pubsub=sharded": "pubsub is for a cluster",
    "redis+cluster://": "each host must be named",
    "redis+cluster://h/2": "database 0 only",
    "redis+cluster://h?db=2": "database 0 only",
    "redis+cluster://h/mymaster": "must be one number",
    "redis+cluster://h?pubsub=loud": "pubsub must be classic, sharded, both",
    "redis+cluster://h?pubsub=both&pubsub=both": "pubsub is given twice",
    "rediss+cluster://h?ssl_cert_reqs=maybe": "ssl_cert_reqs must be",
}


@pytest.mark.parametrize(("text", "reason"), BAD.items())
def test_what_is_no_redis_url(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_redis_url(text, DEFAULT_DB)


PASSWORD = "7hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"redis://:{PASSWORD}",
        f"redis://:{PASSWORD}@h/two",
        f"redis://:{PASSWORD}@h:port/0",
        f"redis://:{PASSWORD}@[::1/0",
        f"redis://:{PASSWORD}@[nonsense]/0",
        f"redis://:{PASSWORD}@h\N{FULLWIDTH SOLIDUS}x/0",
        f"redis://:6#{PASSWORD}@h/0",
        f"redis://:6?{PASSWORD}@h/0",
        f"redis://:6?{PASSWORD}=1@h/0",
        f"redis://:6/{PASSWORD}@h/0",
        f"redis://:6/{PASSWORD}",
        f"redis://{PASSWORD} @h/0",
        f"redis://:{PASSWORD}@h@/0,0",
        f"redis://h/0?password={PASSWORD}&password={PASSWORD}",
        f"unix://:{PASSWORD}@host/run",
        f"rediss://:{PASSWORD}@h/0?ssl_cert_reqs={PASSWORD}",
        f"nonsense://:{PASSWORD}@h/0",
        f"redis+sentinel://:{PASSWORD}@h",
        f"redis+sentinel://:{PASSWORD}@h,/m",
        f"redis+sentinel://:{PASSWORD}@h/m/two",
        f"redis+sentinel://:6/{PASSWORD}@h/m",
        f"redis+sentinel://h/m?sentinel_password={PASSWORD}&sentinel_password={PASSWORD}",
        f"redis+sentinel://h/m?sentinel_password={PASSWORD}@",
        f"redis+cluster://:{PASSWORD}@h/2",
        f"redis+cluster://h?pubsub={PASSWORD}",
    ],
)
def test_no_error_repeats_a_piece_of_the_url(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse_redis_url(text, DEFAULT_DB)
    assert "hunter" not in "".join(traceback.format_exception_only(raised.value))
    # What led to it would be shown with it in a traceback.
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://", "redis://localhost:6379/7"),
        ("redis://u%40:hunter2@h/0", "redis://u%40:***@h:6379/0"),
        ("redis://:hunter2@[::1]:1/0", "redis://:***@[::1]:1/0"),
        ("redis://u@h/0", "redis://u@h:6379/0"),
        ("redis://h/0?password=hunter2", "redis://:***@h:6379/0"),
        ("unix://:hunter2@/run/r%20s", "unix://:***@/run/r%20s?db=7"),
        ("rediss://:hunter2@h/0", "rediss://:***@h:6379/0"),
        ("rediss://h/0?skip_verify=true", "rediss://h:6379/0?ssl_cert_reqs=none"),
        (
            "redis+sentinel://u:hunter2@a,[::1]:1/m%2F1/2?sentinel_username=s%26u&sentinel_password=hunter2",
            "redis+sentinel://u:***@a:26379,[::1]:1/m%2F1/2?sentinel_username=s%26u&sentinel_password=***",
        ),
        ("redis+sentinel://a/m", "redis+sentinel://a:26379/m/7"),
        ("rediss+cluster://:hunter2@a,b", "rediss+cluster://:***@a:6379,b:6379/0"),
        ("redis+cluster://a?pubsub=both", "redis+cluster://a:6379/0?pubsub=both"),
        (
            "rediss://h/0?ssl_check_hostname=0&ssl_ca_certs=/c&ssl_certfile=/d&ssl_keyfile=/e",
            "rediss://h:6379/0?ssl_check_hostname=false&ssl_ca_certs=/c&ssl_certfile=/d&ssl_keyfile=/e",
        ),
    ],
)
def test_masked_is_the_url_without_its_password(text: str, masked: str) -> None:
    url = parse_redis_url(text, DEFAULT_DB)
    assert url.masked() == masked
    assert "hunter2" not in repr(url)


def test_each_server_has_the_servers_login_and_each_sentinel_the_sentinels() -> None:
    url = parse_redis_url(
        "rediss+sentinel://u:p@s1,s2:7/m/3?sentinel_username=su&sentinel_password=sp&ssl_cert_reqs=none", DEFAULT_DB
    )
    tls = TLSOptions(verify=False, check_hostname=False)
    assert url.hosts == (("s1", 26379), ("s2", 7))
    assert url.node("10.0.0.1", 6390) == RedisURL(
        scheme="rediss", host="10.0.0.1", port=6390, db=3, username="u", password="p", tls=tls
    )
    assert url.sentinels() == tuple(
        RedisURL(scheme="rediss", host=host, port=port, db=0, username="su", password="sp", tls=tls)
        for host, port in url.hosts
    )


@given(st.text(alphabet="redis:/@?#&=%[]0129.,-ß\n ", max_size=40))
@example("/@?#")
def test_any_text_is_a_value_or_a_value_error(rest: str) -> None:
    for scheme in ("redis://", "rediss://", "unix://", "redis+sentinel://", "rediss+cluster://"):
        try:
            url = parse_redis_url(scheme + rest, DEFAULT_DB)
        except ValueError:
            continue
        # What is logged as the effective URL means the same, but for the password and what had no effect.
        bare = attrs.evolve(url, password=None, sentinel_password=None, ignored=())
        assert parse_redis_url(bare.masked(), 0) == bare
