"""Where a refresh token outlives a sign-in: in memory, or on request in the system's keyring; never in a file of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import attrs

from upload_adapters.aws.errors import AwsConfigurationError, AwsIdentityError
from upload_adapters.aws.tokens import masked
from upload_core.errors import IdentityError

if TYPE_CHECKING:
    from types import ModuleType

SERVICE: Final = "upload-core"


class TokenStore(Protocol):
    """Keeps one refresh token."""

    def load(self) -> str | None:
        """The token last saved, or None. Raises `IdentityError` if the store cannot be read."""

    def save(self, refresh_token: str) -> None:
        """Replace the token. Raises `IdentityError` if the store cannot be written."""

    def forget(self) -> None:
        """Delete the token; absent is no error. Raises `IdentityError` if the store cannot be written."""


@attrs.define
class MemoryTokenStore:
    """Forgets with the process."""

    _token: str | None = attrs.field(default=None, repr=masked)

    def load(self) -> str | None:
        """The token last saved, or None."""
        return self._token

    def save(self, refresh_token: str) -> None:
        """Replace the token."""
        self._token = refresh_token

    def forget(self) -> None:
        """Delete the token."""
        self._token = None


class KeyringTokenStore:
    """The desktop's or the system's keyring, through the library `keyring`; one entry per issuer and client."""

    def __init__(self, *, issuer: str, client_id: str) -> None:
        """Raises `ConfigurationError` if the library is missing or finds no keyring to use."""
        self._keyring = _import_keyring()
        self._account = f"{issuer} {client_id}"

    def load(self) -> str | None:
        """The token last saved, or None. Raises `IdentityError` if the keyring is locked or broken."""
        try:
            token = self._keyring.get_password(SERVICE, self._account)
        except self._keyring.errors.KeyringError as error:
            raise _unusable("read", error) from None
        return token or None

    def save(self, refresh_token: str) -> None:
        """Replace the token. Raises `IdentityError` if the keyring is locked or broken."""
        try:
            self._keyring.set_password(SERVICE, self._account, refresh_token)
        except self._keyring.errors.KeyringError as error:
            raise _unusable("written", error) from None

    def forget(self) -> None:
        """Delete the token; absent is no error. Raises `IdentityError` if the keyring is locked or broken."""
        try:
            if self._keyring.get_password(SERVICE, self._account) is not None:
                self._keyring.delete_password(SERVICE, self._account)
        except self._keyring.errors.KeyringError as error:
            raise _unusable("written", error) from None


def _import_keyring() -> ModuleType:
    try:
        import keyring
        import keyring.backends.fail
        import keyring.errors
    except ImportError:
        raise AwsConfigurationError(
            "keeping the sign-in in the keyring needs the extra `keyring`: pip install 'upload-core[keyring]', "
            'or set tokens = "memory" in [identity]'
        ) from None
    if isinstance(keyring.get_keyring(), keyring.backends.fail.Keyring):
        raise AwsConfigurationError(
            'this system has no keyring that can be used; set tokens = "memory" in [identity], or install a backend '
            "of the Python library keyring"
        )
    return keyring


def _unusable(what: str, error: Exception) -> IdentityError:
    # Only the kind of error: a backend may quote what it was given.
    return AwsIdentityError(
        f"the keyring could not be {what} ({type(error).__name__}); unlock it and try again, "
        'or set tokens = "memory" in [identity]'
    )
