"""The machinery: a settings class whose attributes say how each is read, shown and documented.

A settings class derives from `Configuration`; each attribute is made by a function of `fields`, which keeps its
`Variable` in the attribute's metadata. The variable's name is the class's prefix and the attribute's name in capitals.
Nothing here knows a daemon or a variable.
"""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

import attrs

from common.quote import quote
from common.secret import Secret, SecretError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Self

T = TypeVar("T")
C = TypeVar("C", bound="Configuration")

_KUBERNETES: Final = re.compile(r".*(_SERVICE_HOST|_PORT|_PORT_.+)")
"""What Kubernetes injects for a Service: one called `status` gives STATUS_SERVICE_HOST, STATUS_PORT and more."""

_LONGEST_QUOTE: Final = 100
_LOGIN: Final = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL)
_REDIS_URL: Final = re.compile(r"((?:rediss?|unix)://).*", re.DOTALL | re.IGNORECASE)


class ConfigError(Exception):
    """The configuration can't be used. The message is one line for the operator and holds no secret."""


@attrs.frozen
class VariableRow:
    """One line of the documentation."""

    variable: str
    default: str
    doc: str


@attrs.frozen
class Loaded(Generic[C]):
    """What `load` made of the environment."""

    settings: C
    warnings: tuple[str, ...]
    """One line each, for the log; without secrets."""


@attrs.frozen
class Environment:
    """The process's variables while they are read, and the warnings so far. An empty or blank value counts as unset."""

    prefix: str
    _values: Mapping[str, str]
    warnings: list[str] = attrs.field(factory=list)

    def get(self, variable: str) -> str | None:
        """The trimmed value of a variable, under its full name; None when it is unset."""
        return self._values.get(variable, "").strip() or None

    def name(self, attribute: str) -> str:
        """The full name of an attribute's variable."""
        return variable_name(self.prefix, attribute)

    @property
    def daemon(self) -> str:
        """The daemon that the prefix is of."""
        return f"{self.prefix.lower().removesuffix('_')}d"

    def warn(self, message: str) -> None:
        """Say something to the operator."""
        self.warnings.append(message)

    def unknown(self, known: frozenset[str]) -> Iterator[str]:
        """The variables that are set, have the prefix and are neither known nor injected by Kubernetes."""
        for variable in sorted(self._values):
            ours = variable.startswith(self.prefix) and self.get(variable) is not None
            if ours and variable not in known and not _KUBERNETES.fullmatch(variable):
                yield variable


@attrs.frozen(kw_only=True)
class Variable(ABC, Generic[T]):
    """How one attribute of a settings class is read, shown and documented."""

    default: str
    """As an operator would write it; empty for nothing."""
    doc: str
    """One line."""

    @abstractmethod
    def default_value(self) -> T:
        """The value that `default` stands for."""

    @abstractmethod
    def read(self, environment: Environment, attribute: str) -> T:
        """The value that the environment gives, else the default; a bad one warns, or raises `ConfigError`."""

    @abstractmethod
    def show(self, value: T) -> str:
        """The value as an operator would write it, secrets masked."""

    def rows(self, variable: str) -> tuple[VariableRow, ...]:
        """The documentation; the names in it are those that are known."""
        return (VariableRow(variable, self.default, self.doc),)


@attrs.frozen(kw_only=True)
class Configuration:
    """The base of every settings class."""

    prefix: ClassVar[str]

    def adjusted(self, environment: Environment) -> Self:
        """The rules between settings: called once, after all were read; may warn and may raise `ConfigError`."""
        del environment
        return self


def variable(kind: Variable[T]) -> T:
    """An attribute of a settings class. (It returns what the attribute will hold, like `attrs.field`.)"""
    attribute: T = attrs.field(default=kind.default_value(), metadata={Variable: kind})
    return attribute


def load(settings_class: type[C], environ: Mapping[str, str]) -> Loaded[C]:
    """Read the settings from environment variables.

    A bad value warns and gives way to its default. Raises `ConfigError` where no default can help: a listen address or
    a Redis URL that can't be parsed, a secret that can't be read (each is read once, here), an unsafe combination.
    """
    environment = Environment(settings_class.prefix, environ)
    kinds = dict(_variables(settings_class))
    construct: Callable[..., C] = settings_class
    values = {attribute: kind.read(environment, attribute) for attribute, kind in kinds.items()}
    settings = construct(**values).adjusted(environment)
    _check_secrets(settings)
    _warn_of_unknown(environment, rows(settings_class))
    return Loaded(settings, tuple(environment.warnings))


def describe(settings: Configuration) -> dict[str, str]:
    """Each variable's name and effective value, as an operator would write it, secrets masked."""
    return {
        variable_name(settings.prefix, attribute): kind.show(getattr(settings, attribute))
        for attribute, kind in _variables(type(settings))
    }


def rows(settings_class: type[Configuration]) -> tuple[VariableRow, ...]:
    """The documentation of every variable, for `--help` and docs/configuration.md."""
    return tuple(
        row
        for attribute, kind in _variables(settings_class)
        for row in kind.rows(variable_name(settings_class.prefix, attribute))
    )


def variable_name(prefix: str, attribute: str) -> str:
    """The environment variable of an attribute."""
    return prefix + attribute.upper()


def bad_value(variable: str, value: str, reason: object, instead: str) -> str:
    """The warning for a value that is not used."""
    return f"{variable}={quoted(value)} is {reason}; using {instead}"


def quoted(value: str) -> str:
    """A value fit for a message: escaped, cut, and without the password of a URL in the wrong variable."""
    shown = _LOGIN.sub(r"\1***@", _REDIS_URL.sub(r"\1***", value))
    return f"'{quote(shown, _LONGEST_QUOTE)}'"


def _variables(settings_class: type[Configuration]) -> Iterator[tuple[str, Variable[object]]]:
    """Attributes and their variables; a subclass that redefines one leaves it at its place."""
    bases = [base for base in reversed(settings_class.__mro__) if attrs.has(base)]
    order = dict.fromkeys(field.name for base in bases for field in attrs.fields(base))
    fields = attrs.fields_dict(settings_class)
    for name in order:
        kind: Variable[object] = fields[name].metadata[Variable]
        yield name, kind


def _check_secrets(settings: Configuration) -> None:
    for attribute, _ in _variables(type(settings)):
        value: object = getattr(settings, attribute)
        if isinstance(value, Secret):
            try:
                value.read()
            except SecretError as error:
                raise ConfigError(str(error)) from None


def _warn_of_unknown(environment: Environment, documented: tuple[VariableRow, ...]) -> None:
    # Compared without the prefix, which would make every two names look alike.
    names = [row.variable.removeprefix(environment.prefix) for row in documented]
    for variable in environment.unknown(frozenset(row.variable for row in documented)):
        shown = quote(variable, _LONGEST_QUOTE)
        nearest = difflib.get_close_matches(variable.removeprefix(environment.prefix), names, n=1, cutoff=0.0)
        hint = f"; the nearest known name is {environment.prefix}{nearest[0]}" if nearest else ""
        environment.warn(f"{shown} is not a known variable and is ignored{hint}")
