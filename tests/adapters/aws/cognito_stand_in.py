"""Cognito as far as a sign-in needs it, on loopback and strict: PKCE, one use of each code, rotation, signed tokens,
and an identity pool that verifies the token it is given. What it should do wrong is ordered by its fields.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from base64 import urlsafe_b64encode
from collections import Counter, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

ROLE = "arn:aws:iam::123456789012:role/stem-spectra-d1-role"
CLIENT_ID = "client"


def make_key(kid: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"}, private=True)


KEY, LATER_KEY = make_key("first"), make_key("later")


class CognitoStandIn:
    """A server on a free port; a context manager. Everything secret that it gives out contains the text `CANARY`."""

    def __init__(self) -> None:
        self.subject, self.email, self.roles = "ada-sub", "ada@example.org", [ROLE]
        self.id_token_lifetime_s = 3600.0
        self.credentials_lifetime_s = 3600.0
        self.skew_s = 0.0
        """How far this server's clock is ahead of ours."""
        self.rotate = False
        self.key, self.published = KEY, [KEY]
        self.claims: dict[str, Any] = {}
        """Claims of the next tokens that differ from what they should be; None leaves one out."""
        self.answers: dict[str, deque[tuple[int, bytes]]] = {}
        """Place → answers to give instead, in order; status 0 cuts the connection."""
        self.requests: Counter[str] = Counter()
        self.forms: list[dict[str, str]] = []
        self.roles_asked: list[str] = []
        self.refresh_tokens: dict[str, str] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.secrets: list[str] = []
        self.lock = threading.RLock()
        self.slow = threading.Event()
        self.slow.set()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stand_in.serve(self, {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if "X-Amz-Target" in self.headers:
                    stand_in.serve(self, json.loads(body))
                else:
                    stand_in.serve(self, {name: values[0] for name, values in parse_qs(body.decode()).items()})

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(time.time() + stand_in.skew_s)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.slow.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def now(self) -> float:
        return time.time() + self.skew_s

    def secret(self, kind: str) -> str:
        made = f"CANARY-{kind}-{secrets.token_hex(8)}"
        self.secrets.append(made)
        return made

    def serve(self, handler: BaseHTTPRequestHandler, form: dict[str, Any]) -> None:
        place = handler.headers.get("X-Amz-Target", "").rpartition(".")[2] or urlsplit(handler.path).path
        with self.lock:
            self.requests[place] += 1
            self.forms.append({"place": place, **form})
            ordered = self.answers.get(place)
            status, body, headers = (*ordered.popleft(), {}) if ordered else self.answer(place, handler.path, form)
        if place == "/oauth2/token":
            self.slow.wait(10)
        if status == 0:
            handler.close_connection = True
            return
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def answer(self, place: str, target: str, form: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        if place == "/oauth2/authorize":
            assert query["response_type"] == "code"
            assert query["client_id"] == CLIENT_ID
            assert query["code_challenge_method"] == "S256"
            code = self.secret("code")
            self.codes[code] = query
            back = urlencode({"code": code, "state": query["state"]})
            return 302, b"", {"Location": f"{query['redirect_uri']}?{back}"}
        if place == "/oauth2/token":
            return *self.token(form), {"Content-Type": "application/json"}
        if place == "/oauth2/revoke":
            self.refresh_tokens.pop(form["token"], None)
            return 200, b"", {}
        if place == "/jwks":
            keys = [key.as_dict(private=False) for key in self.published]
            return 200, json.dumps({"keys": keys}).encode(), {}
        if place == "/.well-known/openid-configuration":
            return 200, json.dumps(self.metadata()).encode(), {}
        if place in {"GetId", "GetCredentialsForIdentity"}:
            return *self.pool(place, form), {"Content-Type": "application/x-amz-json-1.1"}
        return 404, b"nothing here", {}

    def metadata(self) -> dict[str, str]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/oauth2/authorize",
            "token_endpoint": f"{self.url}/oauth2/token",
            "jwks_uri": f"{self.url}/jwks",
            "revocation_endpoint": f"{self.url}/oauth2/revoke",
            "end_session_endpoint": f"{self.url}/logout",
        }

    def token(self, form: dict[str, str]) -> tuple[int, bytes]:
        refused = 400, b'{"error": "invalid_grant"}'
        if form["client_id"] != CLIENT_ID:
            return 400, b'{"error": "invalid_client"}'
        if form["grant_type"] == "authorization_code":
            asked = self.codes.pop(form["code"], None)
            challenge = urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
            self.secrets.append(form["code_verifier"])
            if asked is None or challenge != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
                return refused
            self.secrets += [asked["nonce"], asked["state"]]
            return 200, self.tokens(self.new_refresh_token(), nonce=asked["nonce"])
        used = form["refresh_token"]
        if used not in self.refresh_tokens:
            return refused
        if self.rotate:
            del self.refresh_tokens[used]
            return 200, self.tokens(self.new_refresh_token())
        return 200, self.tokens(None)

    def new_refresh_token(self) -> str:
        token = self.secret("refresh")
        self.refresh_tokens[token] = self.subject
        return token

    def tokens(self, refresh_token: str | None, nonce: str | None = None) -> bytes:
        answer = {"access_token": self.secret("access"), "id_token": self.id_token(nonce), "token_type": "Bearer"}
        if refresh_token is not None:
            answer["refresh_token"] = refresh_token
        return json.dumps(answer).encode()

    def id_token(self, nonce: str | None = None) -> str:
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "sub": self.subject,
            "email": self.email,
            "token_use": "id",
            "cognito:roles": self.roles,
            "nonce": nonce,
            "iat": int(self.now),
            "exp": self.now + self.id_token_lifetime_s,
            "jti": self.secret("id"),
        } | self.claims
        kept = {name: value for name, value in claims.items() if value is not None}
        token = jwt.encode({"alg": "RS256", "kid": self.key.kid}, kept, self.key)
        self.secrets.append(token)
        return token

    def pool(self, place: str, form: dict[str, Any]) -> tuple[int, bytes]:
        (provider, token) = next(iter(form["Logins"].items()))
        try:
            claims = jwt.decode(token, KeySet(list(self.published)), algorithms=["RS256"]).claims
            jwt.JWTClaimsRegistry(now=int(self.now), exp={"essential": True}).validate(claims)
        except JoseError:
            words = f"Invalid login token. Could not use {token}"
            return 400, json.dumps({"__type": "NotAuthorizedException", "message": words}).encode()
        assert provider == urlsplit(self.url).netloc
        if place == "GetId":
            return 200, json.dumps({"IdentityId": "us-east-1:identity"}).encode()
        self.roles_asked.append(form["CustomRoleArn"])
        if form["CustomRoleArn"] not in claims["cognito:roles"]:
            return 400, json.dumps({"__type": "NotAuthorizedException", "message": "Access denied"}).encode()
        credentials = {
            "AccessKeyId": self.secret("access-key"),
            "SecretKey": self.secret("secret-key"),
            "SessionToken": self.secret("session"),
            "Expiration": self.now + self.credentials_lifetime_s,
        }
        return 200, json.dumps({"IdentityId": "us-east-1:identity", "Credentials": credentials}).encode()
