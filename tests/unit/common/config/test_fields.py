"""Each kind of variable by itself: what it takes, how it shows it, what it says of a bad value, what it documents."""

# ruff: noqa: RUF009 - each call makes an attribute's description for attrs; no instance shares a mutable default

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import pytest

from common.config import ConfigError, Configuration, ListenAddress, VariableRow, describe, fields, load, rows
from common.config.addresses import NO_ORIGIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from common.config import Loaded


def one(make: Callable[[], Any]) -> type[Configuration]:
    """A settings class of one attribute, `x`, which `make` makes: the variable is TEA_X."""

    @attrs.frozen(kw_only=True)
    class Tea(Configuration):
        prefix: ClassVar[str] = "TEA_"
        x: Any = make()

    return Tea


def loaded(make: Callable[[], Any], environ: dict[str, str]) -> Loaded[Any]:
    return load(one(make), environ)


def value(make: Callable[[], Any], text: str | None = None) -> Any:
    """What the variable holds, without a warning."""
    found = loaded(make, {} if text is None else {"TEA_X": text})
    assert found.warnings == ()
    return found.settings.x


PLAIN: list[tuple[Callable[[], Any], str, object, tuple[str, object, str], str]] = [
    (lambda: fields.duration("90s", "d"), "90s", 90.0, ("250ms", 0.25, "250ms"), "0s"),
    (lambda: fields.duration("90s", "d", zero=True), "90s", 90.0, ("0s", 0.0, "0s"), "-1s"),
    (lambda: fields.size("2MB", "d"), "2MB", 2 << 20, ("64kb", 65536, "64KB"), "0"),
    (lambda: fields.count("7", "d"), "7", 7, ("0", 0, "0"), "-1"),
    (lambda: fields.count("7", "d"), "7", 7, ("1000000000", 10**9, "1000000000"), "1000000001"),
    (lambda: fields.count("7", "d", minimum=2, maximum=9), "7", 7, ("2", 2, "2"), "1"),
    (lambda: fields.count("7", "d", minimum=2, maximum=9), "7", 7, ("9", 9, "9"), "10"),
    (lambda: fields.boolean("false", "d"), "false", False, ("YES", True, "true"), "2"),
    (lambda: fields.boolean("true", "d"), "true", True, ("off", False, "false"), "-"),
    (lambda: fields.level("info", "d"), "info", "info", ("Warning", "warn", "warn"), "loud"),
    (
        lambda: fields.choices("all", "d", ("milk", "sugar")),
        "all",
        frozenset({"milk", "sugar"}),
        ("sugar", frozenset({"sugar"}), "sugar"),
        "salt",
    ),
    (lambda: fields.plain("3", "d", int), "3", 3, ("4", 4, "4"), "four"),
    (lambda: fields.plain("3", "d", int, hex), "3", 3, ("16", 16, "0x10"), "four"),
]


@pytest.mark.parametrize(("make", "default", "stands_for", "good", "bad"), PLAIN)
def test_a_kind_reads_shows_and_documents(
    make: Callable[[], Any], default: str, stands_for: object, good: tuple[str, object, str], bad: str
) -> None:
    text, wanted, shown = good
    assert value(make) == one(make)().__getattribute__("x") == stands_for
    assert value(make, text) == wanted
    assert describe(loaded(make, {"TEA_X": text}).settings) == {"TEA_X": shown}
    assert rows(one(make)) == (VariableRow("TEA_X", default, "d"),)
    refused = loaded(make, {"TEA_X": bad})
    assert refused.settings.x == stands_for
    (warning,) = refused.warnings
    assert warning.startswith(f"TEA_X='{bad}' is ")
    assert warning.endswith(f"; using the default, {default}")


def test_what_is_unset_is_looked_for_under_its_other_names_in_order() -> None:
    def make() -> int:
        return fields.plain("3", "d", int, otherwise=("OLD", "OLDER"))

    assert loaded(make, {"OLDER": "5"}).settings.x == 5
    assert loaded(make, {"OLDER": "5", "OLD": "4"}).settings.x == 4
    assert loaded(make, {"OLDER": "5", "TEA_X": "2"}).settings.x == 2
    bad = loaded(make, {"OLDER": "5", "OLD": "four"})
    assert bad.settings.x == 3, "a bad value is not passed over"
    (warning,) = bad.warnings
    assert warning.startswith("OLD='four' is ")


def test_a_default_of_nothing_is_called_so() -> None:
    (warning,) = loaded(lambda: fields.admin_address("d"), {"TEA_X": "9102"}).warnings
    assert warning.endswith("; using the default, none")


def test_an_admin_address_is_off_by_default_and_shown_as_it_was_given() -> None:
    def make() -> object:
        return fields.admin_address("d")

    assert value(make) is None
    assert rows(one(make)) == (VariableRow("TEA_X", "", "d"),)
    assert describe(loaded(make, {}).settings) == {"TEA_X": ""}
    assert describe(loaded(make, {"TEA_X": "unix:/run/a.sock"}).settings) == {"TEA_X": "unix:/run/a.sock"}


def test_a_listen_address_is_shown_as_it_was_given_and_a_bad_one_is_fatal() -> None:
    def make() -> ListenAddress:
        return fields.listen_address(":9000", "d")

    assert value(make) == ListenAddress(None, 9000)
    assert value(make, "[::1]:9") == ListenAddress("::1", 9)
    assert describe(loaded(make, {"TEA_X": "[::1]:9"}).settings) == {"TEA_X": "[::1]:9"}
    assert rows(one(make)) == (VariableRow("TEA_X", ":9000", "d"),)
    with pytest.raises(ConfigError, match=r"^TEA_X='nine' is \S.*$"):
        loaded(make, {"TEA_X": "nine"})


def test_networks_are_shown_as_they_are_given() -> None:
    def make() -> object:
        return fields.networks("10.0.0.0/8,::1", "d")

    assert describe(loaded(make, {}).settings) == {"TEA_X": "10.0.0.0/8,::1"}
    assert rows(one(make)) == (VariableRow("TEA_X", "10.0.0.0/8,::1", "d"),)
    (warning,) = loaded(make, {"TEA_X": "proxy"}).warnings
    assert warning.endswith("; using the default, 10.0.0.0/8,::1")


def test_a_bad_origin_is_left_out_and_none_at_all_is_said() -> None:
    def make() -> tuple[str, ...]:
        return fields.origins("d")

    assert value(make) == ()
    assert describe(loaded(make, {}).settings) == {"TEA_X": ""}
    assert rows(one(make)) == (VariableRow("TEA_X", "", "d"),)
    both = loaded(make, {"TEA_X": "a.example, b c, *.example.gov"})
    assert describe(both.settings) == {"TEA_X": "a.example,*.example.gov"}
    (warning,) = both.warnings
    assert warning.startswith("TEA_X: 'b c' is ")
    assert warning.endswith("; this pattern is left out")
    none = loaded(make, {"TEA_X": "b c"})
    assert none.settings.x == (NO_ORIGIN,)
    assert none.warnings[1:] == ("TEA_X='b c' has no usable pattern; only pages of the daemon's own host may connect",)


def redis() -> Any:
    return fields.redis_url("redis://localhost:6379/3", "d")


def strict_redis() -> Any:
    return fields.redis_url("redis://localhost:6379/3", "d", database_matters=True)


def test_a_redis_url_comes_from_four_places() -> None:
    assert rows(one(redis)) == (VariableRow("TEA_X", "redis://localhost:6379/3", "d"),)
    plain = {"REDIS_HOST": "h", "REDIS_PORT": "1234"}
    shared = {**plain, "REDIS_URL": "redis://shared"}
    for environ, shown in (
        ({}, "redis://localhost:6379/3"),
        ({"REDIS_HOST": "h"}, "redis://h:6379/3"),
        ({"REDIS_PORT": "1234"}, "redis://localhost:1234/3"),
        (plain, "redis://h:1234/3"),
        (shared, "redis://shared:6379/3"),
        ({**shared, "TEA_X": "redis://own/5"}, "redis://own:6379/5"),
    ):
        found = loaded(redis, environ)
        assert (describe(found.settings), found.warnings) == ({"TEA_X": shown}, ())


@pytest.mark.parametrize(("port", "used"), [("1", 1), ("65535", 65535), ("0", 6379), ("65536", 6379)])
def test_a_redis_port_is_a_port(port: str, used: int) -> None:
    found = loaded(redis, {"REDIS_PORT": port})
    assert found.settings.x.port == used
    if str(used) != port:
        (warning,) = found.warnings
        assert warning.startswith(f"REDIS_PORT='{port}' is ")
        assert warning.endswith("; using the default, 6379")


@pytest.mark.parametrize("injected", ["tcp://10.0.0.1:6379", "UDP://10.0.0.1:1"])
def test_a_port_that_kubernetes_injects_is_no_port_and_no_mistake(injected: str) -> None:
    found = loaded(redis, {"REDIS_PORT": injected})
    assert (found.settings.x.port, found.warnings) == (6379, ())


def test_a_bad_redis_host_gives_way_to_the_default() -> None:
    found = loaded(redis, {"REDIS_HOST": "a b"})
    assert found.settings.x.host == "localhost"
    (warning,) = found.warnings
    assert warning.startswith("REDIS_HOST='a b' is ")
    assert warning.endswith("; using the default, localhost")


def test_a_shared_url_of_another_database_warns_where_that_matters() -> None:
    shared = {"REDIS_URL": "redis://shared/0"}
    assert loaded(redis, shared).warnings == ()
    assert loaded(strict_redis, shared).warnings == (
        "REDIS_URL names database 0, not tead's own 3; TEA_X goes before it",
    )
    assert loaded(strict_redis, {"REDIS_URL": "redis://shared/3"}).warnings == ()
    assert loaded(strict_redis, {"TEA_X": "redis://own/0"}).warnings == ()


@pytest.mark.parametrize("name", ["TEA_X", "REDIS_URL"])
def test_a_redis_url_that_cannot_be_used_is_fatal_and_its_variable_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} is not a usable Redis URL: \S.*$"):
        loaded(redis, {name: "http://h"})
    with pytest.raises(ConfigError, match=rf"^{name}: \S.*none\.pem"):
        loaded(redis, {name: f"rediss://h?ssl_ca_certs={tmp_path}/none.pem"})


def test_options_without_effect_are_named_and_escaped() -> None:
    (warning,) = loaded(redis, {"TEA_X": "redis://h?a_b=1&x%0ay=2"}).warnings
    assert warning == r"TEA_X: options that have no effect here: a_b, x\u000ay"


def shared_secret() -> Any:
    return fields.secret("d", unprefixed=True)


def test_a_secret_is_documented_with_its_file() -> None:
    assert (
        rows(one(shared_secret))
        == rows(one(lambda: fields.secret("d")))
        == (
            VariableRow("TEA_X_FILE", "", "a file that holds TEA_X; it wins over the variable"),
            VariableRow("TEA_X", "", "d"),
        )
    )
    assert value(shared_secret) is None


def test_a_secret_is_looked_for_in_files_first_and_with_the_prefix_first(tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    own.write_text("own file")
    shared.write_text("shared file")
    environ = {"X": "shared"}
    assert loaded(shared_secret, environ).settings.x.read() == "shared"
    assert loaded(lambda: fields.secret("d"), environ).settings.x is None
    environ["TEA_X"] = "own"
    found = loaded(shared_secret, environ)
    assert (found.settings.x.read(), found.settings.x.variable, found.warnings) == ("own", "TEA_X", ())
    environ["X_FILE"] = str(shared)
    found = loaded(shared_secret, environ)
    assert (found.settings.x.read(), found.settings.x.variable) == ("shared file", "X_FILE")
    assert found.warnings == (
        "TEA_X and X_FILE are both set; the file is used",
        "X and X_FILE are both set; the file is used",
    )
    environ["TEA_X_FILE"] = str(own)
    found = loaded(shared_secret, environ)
    assert (found.settings.x.read(), found.settings.x.variable) == ("own file", "TEA_X_FILE")
    assert found.warnings == ("TEA_X and TEA_X_FILE are both set; the file is used",)
    assert describe(found.settings) == {"TEA_X": f"file {own}"}


def test_how_messages_are_published_is_said_where_they_are_heard() -> None:
    sharded = "redis+cluster://h?pubsub=sharded"
    assert value(lambda: fields.redis_url("redis://h", "d", messages=True), sharded).pubsub == "sharded"
    with pytest.raises(ConfigError, match=r"^TEA_X: the option pubsub is statusd's; "):
        loaded(redis, {"TEA_X": sharded})


def test_a_default_url_without_a_database_is_of_the_first() -> None:
    assert value(lambda: fields.redis_url("redis://localhost", "d")).db == 0
