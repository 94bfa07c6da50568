"""The two ways to have a person sign in: in this machine's browser, or in any browser with the answer pasted back.

Rule: both return the code of the attempt they were given, or raise `IdentityError`; neither stores or logs anything.
"""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import urlsplit

import attrs

from upload_adapters.aws.callback import CallbackServer, parse_answer
from upload_adapters.aws.errors import AwsIdentityError
from upload_adapters.aws.oauth import Attempt

WAIT_S: Final = 300.0
PASTES_MAX: Final = 3


class SignInWay(Protocol):
    """Has a person sign in."""

    def __call__(self, attempt: Attempt, /) -> str:
        """The code for the attempt. Raises `IdentityError` if there will be none."""


@attrs.frozen
class BrowserSignIn:
    """Opens the system's browser and waits for it on the redirect URI; `tell` shows a person what to do if none opens."""

    tell: Callable[[str], None]
    open_browser: Callable[[str], bool] = webbrowser.open
    wait_s: float = WAIT_S

    def __call__(self, attempt: Attempt, /) -> str:
        """The code that the browser brings. Raises `IdentityError` if it brings none in time."""
        with CallbackServer(
            redirect_uri=attempt.redirect_uri, state=attempt.state, authorize_url=attempt.url
        ) as server:
            try:
                opened = self.open_browser(server.start_url)
            except (webbrowser.Error, OSError):
                opened = False
            if opened:
                self.tell(
                    f"Sign in with the browser that opens. If none does, open this page on this machine:\n{attempt.url}"
                )
            else:
                self.tell(f"No browser could be opened. To sign in, open this page on this machine:\n{attempt.url}")
            return server.wait(self.wait_s).demand_code()


@attrs.frozen
class PastedSignIn:
    """Shows the address through `tell` and takes the redirect, or the code alone, from `prompt`."""

    tell: Callable[[str], None]
    prompt: Callable[[str], str]

    def __call__(self, attempt: Attempt, /) -> str:
        """The code that a person pastes. Raises `IdentityError` after three unusable answers, or an empty one."""
        self.tell(
            f"To sign in, open this page in any browser:\n{attempt.url}\n"
            f"Afterwards the browser goes to an address that begins with {attempt.redirect_uri} and may say that it "
            "cannot be reached. Copy that whole address."
        )
        for left in reversed(range(PASTES_MAX)):
            try:
                pasted = "".join(self.prompt("Address (or code): ").split())
            except EOFError:
                pasted = ""
            if not pasted:
                break
            code = _code_in(pasted, attempt)
            if code:
                return code
            if left:
                self.tell("That is no answer to this sign-in. Copy the whole address that the browser ended at.")
        raise AwsIdentityError("the sign-in was given up; run it again to start a new one")


def _code_in(pasted: str, attempt: Attempt) -> str | None:
    """The code in what was pasted; a bare code carries no state, but without this attempt's verifier it is worthless."""
    if "://" in pasted or "&" in pasted or pasted.startswith(("?", "code=", "state=", "error=")):
        try:
            query = urlsplit(pasted).query or pasted
        except ValueError:
            return None
        answer = parse_answer(query, attempt.state)
        return answer.demand_code() if answer is not None else None
    return pasted if pasted.isprintable() and pasted.isascii() else None
