"""Plain AWS credentials as an identity: environment, profile, single sign-on, instance role, by boto3's own chain.

Sign-in with Cognito is in `identity_cognito`; both give the other adapters a boto3 session.
"""

from __future__ import annotations

from typing import Protocol

import boto3
import botocore.exceptions

from upload_adapters.aws.errors import AwsIdentityError
from upload_core.text import printable


def expiry_ms(session: boto3.Session | None) -> int | None:
    """When the session's credentials end unless they are renewed (ms since the epoch), None for those that do not end.

    Asks nobody, and renews nothing.
    """
    credentials = None if session is None else session.get_credentials()
    ends = getattr(credentials, "_expiry_time", None)  # botocore tells it nowhere else
    return None if ends is None else int(ends.timestamp() * 1000)


class AwsIdentityPort(Protocol):
    """An `upload_core.ports.Identity` that can also say with which session to talk to AWS."""

    def sign_in(self) -> str:
        """Make credentials available; returns a public name. Raises `IdentityError` or `ArchiveUnavailableError`."""

    def session(self) -> boto3.Session:
        """The session, signed in first if it is not yet; it renews its credentials by itself."""


class AwsIdentity:
    """boto3's credential chain, unchanged; who keeps it fresh is whoever configured it."""

    def __init__(self, *, region: str | None = None, profile: str | None = None) -> None:
        self._region = region
        self._profile = profile
        self._session: boto3.Session | None = None

    def sign_in(self) -> str:
        """Find credentials; returns where they come from. Raises `IdentityError` if there are none that work."""
        try:
            session = boto3.Session(region_name=self._region, profile_name=self._profile)
            credentials = session.get_credentials()
            if credentials is not None:
                # Some sources (single sign-on, a program, a role) answer only now.
                credentials.get_frozen_credentials()
        except botocore.exceptions.BotoCoreError as error:
            raise AwsIdentityError(
                f"the AWS credentials cannot be used: {printable(str(error))}; try `aws sts get-caller-identity`"
            ) from error
        if credentials is None:
            raise AwsIdentityError(
                "no AWS credentials were found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "run `aws configure`, or run on a machine that has a role"
            )
        self._session = session
        profile = f" of profile {session.profile_name}" if session.profile_name != "default" else ""
        return printable(f"AWS credentials ({credentials.method}){profile}")

    def session(self) -> boto3.Session:
        """The session of the chain. Raises `IdentityError` if it holds no credentials."""
        if self._session is None:
            self.sign_in()
        assert self._session is not None  # sign_in sets it or raises
        return self._session

    def expires_ms(self) -> int | None:
        """When the credentials found by `sign_in` end, None if they do not or there are none yet."""
        return expiry_ms(self._session)

    def sign_out(self) -> str:
        """Forget the session; the credentials themselves are not ours to end."""
        self._session = None
        return ""
