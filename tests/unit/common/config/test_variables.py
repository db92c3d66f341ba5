"""The machinery, on a settings class that no daemon has."""

# ruff: noqa: RUF009 - each call makes an attribute's description for attrs; no instance shares a mutable default

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs
import pytest

from common.config import ConfigError, Configuration, VariableRow, describe, fields, load, rows
from common.config.variables import quoted

if TYPE_CHECKING:
    from pathlib import Path

    from common.secret import Secret


@attrs.frozen(kw_only=True)
class Tea(Configuration):
    prefix: ClassVar[str] = "TEA_"

    steep: float = fields.duration("3m", "how long")
    pot: int = fields.size("1MB", "how large")
    token: Secret | None = fields.secret("who may drink")
    resync_interval: float = fields.duration("30s", "how often", zero=True)


@attrs.frozen(kw_only=True)
class GreenTea(Tea):
    prefix: ClassVar[str] = "GREEN_"

    steep: float = fields.duration("90s", "not long")
    cups: int = fields.count("2", "how many")


def test_without_variables_there_are_the_defaults_and_no_warning() -> None:
    loaded = load(Tea, {})
    assert loaded.settings == Tea() == Tea(steep=180.0, pot=1 << 20, token=None, resync_interval=30.0)
    assert loaded.warnings == ()


def test_values_are_trimmed_and_blank_ones_are_unset() -> None:
    environ = {"TEA_STEEP": " 5m\t", "TEA_POT": "  ", "TEA_TOKEN": "", "TEA_TOKEN_FILE": "\n", "TEA_UNHEARD_OF": " "}
    loaded = load(Tea, environ)
    assert loaded.settings == Tea(steep=300.0)
    assert loaded.warnings == ()


def test_a_bad_value_names_variable_value_and_default() -> None:
    loaded = load(Tea, {"TEA_STEEP": "long"})
    assert loaded.settings == Tea()
    assert loaded.warnings == ("TEA_STEEP='long' is not a duration such as 250ms, 5s or 1m30s; using the default, 3m",)


def test_zero_is_a_value_only_where_it_means_something() -> None:
    loaded = load(Tea, {"TEA_STEEP": "0s", "TEA_RESYNC_INTERVAL": "0"})
    assert loaded.settings == Tea(resync_interval=0.0)
    assert loaded.warnings == ("TEA_STEEP='0s' is not longer than zero; using the default, 3m",)


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("TEA_STEEPING", "TEA_STEEP"),
        ("TEA_TOKENFILE", "TEA_TOKEN_FILE"),
        ("TEA_RESYNC", "TEA_RESYNC_INTERVAL"),
        ("TEA_T", "TEA_POT"),  # which shares more with STEEP if the prefix counts
    ],
)
def test_an_unknown_variable_warns_with_the_nearest_name_and_without_its_value(variable: str, nearest: str) -> None:
    loaded = load(Tea, {variable: "hunter2"})
    assert loaded.warnings == (
        f"{variable} is not a known variable and is ignored; the nearest known name is {nearest}",
    )


def test_even_a_far_name_has_a_nearest_one() -> None:
    (warning,) = load(Tea, {"TEA_XYZZY": "1"}).warnings
    assert warning.startswith("TEA_XYZZY is not a known variable and is ignored; the nearest known name is TEA_")


def test_a_name_without_an_end_is_cut() -> None:
    (warning,) = load(Tea, {"TEA_" + "X" * 120: "1"}).warnings
    name, told, _ = warning.partition(" is not a known variable")
    assert told
    assert (len(name), name[-18:]) == (100, "… (124 characters)")


def test_where_no_name_is_known_none_is_near() -> None:
    class Bare(Configuration):
        prefix: ClassVar[str] = "BARE_"

    assert load(Bare, {"BARE_X": "1"}).warnings == ("BARE_X is not a known variable and is ignored",)


@pytest.mark.parametrize(
    "variable",
    [
        "TEA_SERVICE_HOST",
        "TEA_PORT",
        "TEA_SERVICE_PORT",
        "TEA_SERVICE_PORT_HTTP",
        "TEA_PORT_9002_TCP",
        "TEA_PORT_9002_TCP_ADDR",
        "TEA_REDIS_SERVICE_HOST",
        "TEA_REDIS_PORT",
    ],
)
def test_what_kubernetes_injects_is_no_mistake(variable: str) -> None:
    assert load(Tea, {variable: "tcp://10.0.0.1:9002"}).warnings == ()


def test_other_prefixes_are_nobodys_business() -> None:
    assert load(Tea, {"STEEP": "1s", "GREEN_STEEP": "1s", "tea_steep": "1s", "TEAPOT": "1"}).warnings == ()


def test_a_subclass_has_its_own_prefix_defaults_and_variables() -> None:
    loaded = load(GreenTea, {"GREEN_POT": "2MB", "TEA_POT": "3MB"})
    assert loaded.settings == GreenTea(pot=2 << 20, steep=90.0, cups=2)
    assert load(GreenTea, {"GREEN_STEEP": "x"}).warnings[0].endswith("using the default, 90s")


def test_rows_document_every_name_in_the_order_of_the_first_class() -> None:
    assert rows(GreenTea) == (
        VariableRow("GREEN_STEEP", "90s", "not long"),
        VariableRow("GREEN_POT", "1MB", "how large"),
        VariableRow("GREEN_TOKEN_FILE", "", "a file that holds GREEN_TOKEN; it wins over the variable"),
        VariableRow("GREEN_TOKEN", "", "who may drink"),
        VariableRow("GREEN_RESYNC_INTERVAL", "30s", "how often"),
        VariableRow("GREEN_CUPS", "2", "how many"),
    )


def test_describe_shows_effective_values_as_an_operator_writes_them() -> None:
    settings = load(Tea, {"TEA_STEEP": "65s", "TEA_POT": "65536", "TEA_TOKEN": "hunter2"}).settings
    assert describe(settings) == {
        "TEA_STEEP": "1m5s",
        "TEA_POT": "64KB",
        "TEA_TOKEN": "set",
        "TEA_RESYNC_INTERVAL": "30s",
    }
    assert describe(Tea())["TEA_TOKEN"] == ""


def test_a_secret_comes_from_its_file_first(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("from the file\n")
    loaded = load(Tea, {"TEA_TOKEN_FILE": str(path), "TEA_TOKEN": "hunter2"})
    assert loaded.settings.token is not None
    assert loaded.settings.token.read() == "from the file"
    assert loaded.warnings == ("TEA_TOKEN and TEA_TOKEN_FILE are both set; the file is used",)
    assert describe(loaded.settings)["TEA_TOKEN"] == f"file {path}"


def test_a_secret_without_the_right_to_plain_names_ignores_them() -> None:
    assert load(Tea, {"TOKEN": "hunter2", "TOKEN_FILE": "/none"}).settings.token is None


def test_a_bad_secret_is_fatal(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    with pytest.raises(ConfigError, match=r"^TEA_TOKEN_FILE: file .*/empty is empty$"):
        load(Tea, {"TEA_TOKEN_FILE": str(empty)})
    with pytest.raises(ConfigError, match=r"^TEA_TOKEN_FILE: file .*/none can't be read: No such file or directory$"):
        load(Tea, {"TEA_TOKEN_FILE": str(tmp_path / "none"), "TEA_TOKEN": "hunter2"})
    with pytest.raises(ConfigError, match=r"^TEA_TOKEN is not UTF-8$"):
        load(Tea, {"TEA_TOKEN": "caf\udce9"})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "'plain'"),
        ("two\nlines", r"'two\u000alines'"),
        ("x" * 101, "'" + "x" * 82 + "… (101 characters)'"),
        ("https://user:hunter2@h/x", "'https://***@h/x'"),
        ("redis://:hunter2@h", "'redis://***'"),
        ("REDISS://:hunter2", "'REDISS://***'"),
    ],
)
def test_a_quoted_value_is_one_short_line_without_a_password(value: str, shown: str) -> None:
    assert quoted(value) == shown
