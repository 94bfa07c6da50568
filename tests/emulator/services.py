"""SSM parameters, Lambda invocations, Cognito identity pools and STS, as far as a delivery uses them."""

import base64
import json
import threading
import urllib.parse
import uuid
from collections.abc import Mapping
from typing import Any

import attrs

from tests.emulator.credentials import Credentials, Keyring
from tests.emulator.functions import Function, FunctionError
from tests.emulator.settings import Settings
from tests.emulator.wire import (
    Handler,
    Request,
    Response,
    ServiceError,
    element,
    iso_date,
    texts,
    xml_error,
    xml_response,
)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None, code: str = "") -> Response:
    body = json.dumps(value).encode()
    return Response(status, {"content-type": "application/x-amz-json-1.1", **(headers or {})}, body, code)


# How S3's names for the credential faults read in the JSON services.
JSON_CODES = {
    "ExpiredToken": "ExpiredTokenException",
    "InvalidToken": "UnrecognizedClientException",
    "InvalidAccessKeyId": "UnrecognizedClientException",
    "AccessDenied": "AccessDeniedException",
    "RequestTimeTooSkewed": "InvalidSignatureException",
    "SlowDown": "ThrottlingException",
}


def json_error(error: ServiceError) -> Response:
    code = JSON_CODES.get(error.code, error.code)
    status = 400 if error.code in JSON_CODES else error.status
    body = {"__type": code, "message": error.message, "Message": error.message}
    return json_response(body, status, {"x-amzn-errortype": code}, code)


@attrs.define
class Parameters:
    """SSM's parameter store; name → (type, value)."""

    keyring: Keyring
    values: dict[str, tuple[str, str]] = attrs.field(factory=dict)

    def handlers(self) -> dict[str, Handler]:
        return {"GetParameter": self.get, "PutParameter": self.put}

    def get(self, request: Request) -> Response:
        self.keyring.principal(request)
        asked = json.loads(request.body)
        found = self.values.get(asked["Name"])
        if found is None:
            raise ServiceError(400, "ParameterNotFound", asked["Name"])
        kind, value = found
        if kind == "SecureString" and not asked.get("WithDecryption"):
            value = "AQICAHh" + base64.b64encode(value.encode()[::-1]).decode()
        return json_response({"Parameter": {"Name": asked["Name"], "Type": kind, "Value": value, "Version": 1}})

    def put(self, request: Request) -> Response:
        self.keyring.principal(request)
        asked = json.loads(request.body)
        if asked["Name"] in self.values and not asked.get("Overwrite"):
            raise ServiceError(400, "ParameterAlreadyExists", "The parameter already exists.")
        self.values[asked["Name"]] = (asked.get("Type", "String"), asked["Value"])
        return json_response({"Version": 1})


@attrs.define
class Functions:
    """Lambda: functions by name; an ARN is taken by its last part."""

    keyring: Keyring
    by_name: dict[str, Function] = attrs.field(factory=dict)

    def handlers(self) -> dict[str, Handler]:
        return {"Invoke": self.invoke}

    def invoke(self, request: Request) -> Response:
        self.keyring.principal(request)
        named = request.key
        parts = named.split(":")
        function = self.by_name.get(parts[6] if parts[0] == "arn" and len(parts) > 6 else parts[0])
        if function is None:
            raise ServiceError(404, "ResourceNotFoundException", f"Function not found: {named}")
        try:
            payload = json.loads(request.body or b"null")
        except ValueError:
            raise ServiceError(
                400, "InvalidRequestContentException", "Could not parse request body into json"
            ) from None
        if request.headers.get("x-amz-invocation-type", "RequestResponse") == "Event":
            threading.Thread(target=function, args=(payload,), daemon=True).start()
            return Response(202)
        headers = {"x-amz-executed-version": "$LATEST"}
        try:
            body = json.dumps(function(payload)).encode()
        except Exception as error:  # noqa: BLE001 - whatever the function raises is its caller's answer
            kind = error.error_type if isinstance(error, FunctionError) else type(error).__name__
            body = json.dumps({"errorMessage": str(error), "errorType": kind}).encode()
            headers["x-amz-function-error"] = "Unhandled"
        return Response(200, {"content-type": "application/json", **headers}, body)


@attrs.define
class IdentityPools:
    """Cognito identity pools: an OpenID token in, credentials for one of its roles out. The token is not verified."""

    settings: Settings
    keyring: Keyring
    identities: dict[tuple[str, str], str] = attrs.field(factory=dict)
    revoked: set[str] = attrs.field(factory=set)
    """Identity ids whose credentials are refused from now on."""

    def handlers(self) -> dict[str, Handler]:
        return {
            "GetId": self.get_id,
            "GetCredentialsForIdentity": self.get_credentials,
            "GetOpenIdToken": self.get_open_id_token,
        }

    def get_id(self, request: Request) -> Response:
        asked = json.loads(request.body)
        subject = self._login(asked).get("sub", "")
        known = (asked["IdentityPoolId"], str(subject))
        return json_response(
            {"IdentityId": self.identities.setdefault(known, f"{self.settings.region}:{uuid.uuid4()}")}
        )

    def get_credentials(self, request: Request) -> Response:
        asked = json.loads(request.body)
        identity = self._identity(asked)
        claims = self._login(asked)
        roles = claims.get("cognito:roles", [])
        role = asked.get("CustomRoleArn") or claims.get("cognito:preferred_role") or (roles[0] if roles else "")
        if asked.get("CustomRoleArn") and role not in roles:
            raise ServiceError(400, "NotAuthorizedException", "Token does not contain the requested role")
        issued = self.keyring.issue(role or identity, self.settings.credentials_lifetime_s)
        credentials = {
            "AccessKeyId": issued.access_key,
            "SecretKey": issued.secret_key,
            "SessionToken": issued.token,
            "Expiration": issued.expires,
        }
        return json_response({"IdentityId": identity, "Credentials": credentials})

    def get_open_id_token(self, request: Request) -> Response:
        asked = json.loads(request.body)
        identity = self._identity(asked)
        self._login(asked)
        expires = self.settings.now() + 600
        return json_response({"IdentityId": identity, "Token": unsigned_token({"sub": identity, "exp": expires})})

    def _identity(self, asked: Mapping[str, Any]) -> str:
        identity = str(asked["IdentityId"])
        if identity not in self.identities.values():
            raise ServiceError(400, "ResourceNotFoundException", f"Identity '{identity}' not found.")
        if identity in self.revoked:
            raise ServiceError(400, "NotAuthorizedException", "Access to Identity is forbidden.")
        return identity

    def _login(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The claims of the first login token; raises if there is none or its time is over."""
        logins = asked.get("Logins") or {}
        if not logins:
            raise ServiceError(400, "NotAuthorizedException", "Unauthenticated access is not supported for this pool.")
        token = str(next(iter(logins.values())))
        try:
            part = token.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        except (ValueError, IndexError):
            raise ServiceError(
                400, "NotAuthorizedException", "Invalid login token. Not a valid OpenId Connect token."
            ) from None
        if claims.get("exp", 0) <= self.settings.now():
            raise ServiceError(400, "NotAuthorizedException", "Invalid login token. Token expired")
        return dict(claims)


def unsigned_token(claims: Mapping[str, Any]) -> str:
    """A JWT without a signature, good enough for `IdentityPools`."""

    def part(value: Mapping[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


@attrs.define
class SecurityTokens:
    """STS: who am I, and credentials for a role."""

    settings: Settings
    keyring: Keyring

    def handlers(self) -> dict[str, Handler]:
        return {
            "GetCallerIdentity": self.get_caller_identity,
            "AssumeRole": self.assume_role,
            "AssumeRoleWithWebIdentity": self.assume_role,
        }

    def get_caller_identity(self, request: Request) -> Response:
        principal = self.keyring.principal(request)
        account = self.settings.account
        arn = principal if principal.startswith("arn:") else f"arn:aws:iam::{account}:user/{principal}"
        fields = texts([("UserId", request.access_key), ("Account", account), ("Arn", arn)])
        return xml_response("GetCallerIdentityResponse", element("GetCallerIdentityResult", fields))

    def assume_role(self, request: Request) -> Response:
        form = dict(urllib.parse.parse_qsl(request.body.decode()))
        if request.operation == "AssumeRole":
            self.keyring.principal(request)
        lifetime = float(form.get("DurationSeconds", self.settings.credentials_lifetime_s))
        issued = self.keyring.issue(form["RoleArn"], min(lifetime, self.settings.credentials_lifetime_s))
        result = element(f"{request.operation}Result", element("Credentials", _credentials_xml(issued)))
        return xml_response(f"{request.operation}Response", result)


def _credentials_xml(issued: Credentials) -> str:
    return texts(
        [
            ("AccessKeyId", issued.access_key),
            ("SecretAccessKey", issued.secret_key),
            ("SessionToken", issued.token),
            ("Expiration", iso_date(issued.expires)),
        ]
    )


def query_error(error: ServiceError) -> Response:
    content = element("Error", texts([("Type", "Sender"), ("Code", error.code), ("Message", error.message)]))
    response = xml_error(error)
    response.body = f"<ErrorResponse>{content}</ErrorResponse>".encode()
    return response
