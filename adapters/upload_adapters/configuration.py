"""The settings of a deployment: from `mast.toml`, the environment over it, flags over that; each with its origin.

Rule: a setting that cannot work is refused before anything starts, by a message with its place, its name and what to do.
An unknown key is such a setting: a misspelt one must not be silently without effect.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs

from upload_core.errors import ConfigurationError
from upload_core.text import printable

FILE_NAME: Final = "mast.toml"
PREFIX: Final = "UPLOAD_CORE_"
MASK: Final = "***"
FILE_SIZE_MAX: Final = 1 << 20
"""A deployment file has a few hundred bytes; `--to` pointed at a data file should not read it whole."""

Value = str | int | None


@attrs.frozen
class Setting:
    """One thing that can be set, and what it may be."""

    name: str
    meaning: str
    kind: type[str] | type[int] = str
    default: Value = None
    choices: tuple[str, ...] = ()
    at_least: int = 1
    secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.replace(".", "_").upper()

    @property
    def section(self) -> str:
        """The table of the file that it stands in."""
        return self.name.partition(".")[0]

    @property
    def key(self) -> str:
        """Its key in that table."""
        return self.name.partition(".")[2]


SETTINGS: Final = (
    Setting("deployment.name", "what people call the archive"),
    Setting("deployment.region", "AWS region of the archive"),
    Setting("deployment.network_parameter", "SSM parameter with the archive's places", default="/mast-fast/delivery"),
    Setting("deployment.transport", "what carries the files' bytes", default="auto", choices=("auto", "curl", "boto3")),
    Setting("identity.kind", "how to sign in", default="aws", choices=("aws", "cognito")),
    Setting("identity.domain", "host of Cognito's sign-in pages"),
    Setting("identity.client_id", "id of the app client"),
    Setting("identity.redirect_uri", "where the browser comes back to", default="http://localhost:3000"),
    Setting("identity.user_pool_id", "id of the user pool"),
    Setting("identity.identity_pool_id", "id of the identity pool"),
    Setting("identity.issuer", "OpenID Connect issuer, instead of domain: its places are asked for"),
    Setting("identity.scope", "what the sign-in asks for", default="openid email"),
    Setting("identity.role", "ARN of the role, where the delivery's cannot be told by its name"),
    Setting("identity.tokens", "where the sign-in is kept", default="memory", choices=("memory", "keyring")),
    Setting("identity.wait_s", "how long a sign-in may take, in seconds", kind=int, default=300),
    Setting("identity.profile", 'profile of the AWS configuration, with kind = "aws"'),
    Setting("batch.role", "ARN of the role that S3 Batch Operations takes on"),
    Setting("batch.bucket", "general purpose bucket for manifests and reports of its jobs"),
    Setting("batch.prefix", "what keys in that bucket begin with", default="upload-core"),
    Setting("batch.objects", "objects in one job", kind=int, default=250_000, at_least=2),
    Setting("batch.priority", "priority of the jobs: higher ones go first", kind=int, default=10),
)
_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
_SECTIONS: Final = tuple(dict.fromkeys(setting.section for setting in SETTINGS))

AWS_VARIABLES: Final = (
    *("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    *("AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ROLE_ARN"),
    *(
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CA_BUNDLE",
        "AWS_MAX_ATTEMPTS",
        "AWS_RETRY_MODE",
        "AWS_EC2_METADATA_DISABLED",
    ),
    *("AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "no_proxy"),
)
"""What boto3 and requests read for themselves; shown where set, so that nothing that counts is hidden."""
_SECRET_VARIABLES: Final = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}


@attrs.frozen
class ConfigValue:
    """A setting's value and where it comes from; a secret one shows neither here nor in `shown`."""

    name: str
    value: Value = attrs.field(repr=False)
    origin: str
    secret: bool = attrs.field(default=False, repr=False)

    @property
    def shown(self) -> str:
        """The value as a person may see it: secrets masked, a URL without its password, nothing unprintable."""
        if self.value is None or self.value == "":
            return ""
        return MASK if self.secret else _without_password(printable(str(self.value)))


@attrs.frozen
class Configuration:
    """Every setting with its value and origin; `path` is the file's, if there was one."""

    values: tuple[ConfigValue, ...]
    path: str | None
    aws_variables: tuple[ConfigValue, ...] = ()

    def __getitem__(self, name: str) -> ConfigValue:
        """The setting of that name. Raises `KeyError` for a name that is none."""
        for value in self.values:
            if value.name == name:
                return value
        raise KeyError(name)

    def text(self, name: str) -> str:
        """A text setting, "" where it is not set."""
        value = self[name].value
        assert value is None or isinstance(value, str), name
        return value or ""

    def number(self, name: str) -> int:
        """A number setting; every one has a default."""
        value = self[name].value
        assert isinstance(value, int), name
        return value

    def show(self) -> Iterator[tuple[str, str, str]]:
        """Rows (name, value, origin) for a person, every setting first, then what boto3 reads of the environment."""
        for value in (*self.values, *self.aws_variables):
            yield value.name, value.shown, printable(value.origin)


def load(
    path: str | Path | None, *, environ: Mapping[str, str], flags: Mapping[str, str | int | None] | None = None
) -> Configuration:
    """The configuration of the file at `path` (or of `mast.toml` in that directory), environment and flags over it.

    `flags` maps a setting's name to its value, None where the flag was not given. An empty environment variable
    counts as not set. Raises `ConfigurationError` for whatever cannot work.
    """
    place, found = (None, {}) if path is None else _read_file(Path(path))
    given: dict[str, tuple[Value, str]] = {s.name: (s.default, "default") for s in SETTINGS}
    given |= {name: (value, f"file {place}") for name, value in found.items()}
    given |= dict(_from_environment(environ))
    for name, flag in (flags or {}).items():
        if flag is not None:
            origin = f"flag --set {printable(name, 100)}"
            given[name] = (_checked(_known(name, origin), flag, origin, typed=False), origin)
    values = tuple(ConfigValue(s.name, *given[s.name], secret=s.secret) for s in SETTINGS)
    configuration = Configuration(values, place, tuple(_aws_variables(environ)))
    _demand_what_belongs_together(configuration)
    return configuration


def _read_file(path: Path) -> tuple[str, dict[str, Value]]:
    """Where the file is, and the settings in it."""
    if path.is_dir():
        path = path / FILE_NAME
    place = printable(str(path))
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_SIZE_MAX + 1)
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no deployment file {place}; name the archive's {FILE_NAME}, or file:///DIRECTORY for a local archive"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"the deployment file {place} cannot be read: {error.strerror or error}") from error
    if len(raw) > FILE_SIZE_MAX:
        raise ConfigurationError(f"{place} is no deployment file: it is larger than {FILE_SIZE_MAX >> 20} MiB")
    try:
        # An editor on Windows may put a mark before the first byte.
        content = tomllib.loads(raw.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{place} is not TOML: {printable(str(error), 300)}; mend it there") from error
    return place, dict(_from_content(content, place))


def _from_content(content: Mapping[str, object], place: str) -> Iterator[tuple[str, Value]]:
    for section, table in content.items():
        if section not in _SECTIONS:
            raise _unknown(f"{place}: [{printable(section)}]", section, _SECTIONS, "known sections")
        if not isinstance(table, dict):
            raise ConfigurationError(f"{place}: {section} must be a section; write [{section}] on a line of its own")
        for key, value in table.items():
            where = f"{place}: [{section}] {printable(key)}"
            setting = _BY_NAME.get(f"{section}.{key}")
            if setting is None:
                raise _unknown(where, key, [s.key for s in SETTINGS if s.section == section], "known keys")
            yield setting.name, _checked(setting, value, where, typed=True)


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[Value, str]]]:
    variables = {setting.variable: setting for setting in SETTINGS}
    sections = tuple(f"{PREFIX}{section.upper()}_" for section in _SECTIONS)
    for variable, text in environ.items():
        origin = f"environment {printable(variable)}"
        if variable in variables:
            if text:
                setting = variables[variable]
                yield setting.name, (_checked(setting, text, origin, typed=False), origin)
        elif variable.startswith(sections):
            # Other variables with the prefix are somebody else's; one with a section's name was meant for us.
            raise _unknown(origin, variable, list(variables), "known variables")


def _aws_variables(environ: Mapping[str, str]) -> Iterator[ConfigValue]:
    for variable in sorted(environ):
        if environ[variable] and (variable in AWS_VARIABLES or variable.startswith("AWS_ENDPOINT_URL")):
            yield ConfigValue(
                variable, environ[variable], f"environment {variable}", secret=variable in _SECRET_VARIABLES
            )


def _known(name: str, origin: str) -> Setting:
    setting = _BY_NAME.get(name)
    if setting is None:
        raise _unknown(origin, name, list(_BY_NAME), "known settings")
    return setting


def _checked(setting: Setting, value: object, where: str, *, typed: bool) -> Value:
    """The value as the setting's type, which a file has to write (`typed`). Raises `ConfigurationError`."""
    if setting.kind is int:
        return _checked_number(setting, value, where, typed=typed)
    if not isinstance(value, str):
        raise ConfigurationError(f'{where} must be text; write it in quotes: {setting.key} = "..."')
    value = value.strip()
    if not value:
        raise ConfigurationError(f"{where} is empty; give it a value or leave it out")
    if not value.isprintable():
        raise ConfigurationError(f"{where} holds characters that cannot be printed; type it anew")
    if setting.choices and value not in setting.choices:
        raise ConfigurationError(
            f"{where} must be one of {', '.join(setting.choices)}, and is {_quoted(setting, value)}"
        )
    return value


def _checked_number(setting: Setting, value: object, where: str, *, typed: bool) -> int:
    if isinstance(value, str) and not typed:
        try:
            value = int(value)
        except ValueError:
            raise ConfigurationError(f"{where} must be a whole number, and is {_quoted(setting, str(value))}") from None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigurationError(f"{where} must be a whole number, without quotes: {setting.key} = {setting.default}")
    if value < setting.at_least:
        raise ConfigurationError(f"{where} must be at least {setting.at_least}, and is {value}")
    return value


def _demand_what_belongs_together(configuration: Configuration) -> None:
    if configuration.text("identity.kind") != "cognito":
        return
    either = [] if configuration.text("identity.issuer") else ["domain", "user_pool_id"]
    for key in ("client_id", "identity_pool_id", *either):
        if not configuration.text(f"identity.{key}"):
            place = configuration.path or f"a {FILE_NAME}"
            kind = configuration["identity.kind"]
            raise ConfigurationError(
                f'identity.kind is "cognito" ({printable(kind.origin)}), which needs {key}: write it under [identity] in '
                f"{place}, or set {_BY_NAME[f'identity.{key}'].variable}"
            )


def _unknown(where: str, name: str, known: Sequence[str], heading: str) -> ConfigurationError:
    close = difflib.get_close_matches(name, known, n=1)
    advice = f"did you mean {close[0]}?" if close else f"{heading}: {', '.join(known)}"
    return ConfigurationError(f"{where} is unknown; {advice}")


def _quoted(setting: Setting, value: str) -> str:
    return MASK if setting.secret else repr(printable(value, 100))


def _without_password(text: str) -> str:
    """A URL with user and password masked; anything else as it is."""
    try:
        parts = urlsplit(text)
        credentials, at, host = parts.netloc.rpartition("@")
    except ValueError:
        return text
    return text.replace(f"{credentials}@", f"{MASK}@", 1) if at and host else text
