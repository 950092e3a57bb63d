"""The jobs API of a cluster's dashboard: Ray's client with time limits, and errors that say what to do."""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import ray
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from fsf_core.errors import ClusterError, ConfigError, FSFError
from fsf_core.safe_text import redact

ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
HEADERS_VARIABLE = "RAY_JOB_HEADERS"
TIMEOUT_S = (5.0, 30.0)
"""Longest times to connect, and between two packets; Ray's client has no limit."""

PROBE_S = 10.0
"""How long a dashboard may take to respond; one that is just starting refuses connections."""

RETRY_S = 1.0
PACKAGES = "/api/packages/gcs/"

_EXAMPLE = "expected the address of the cluster's dashboard, such as http://HEAD:8265"
_AUTHENTICATE = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to the token of the cluster"


class RequestFailedError(FSFError):
    """The dashboard refused a request."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the dashboard responded with status {status}: {_last_line(text)}")
        self.status = status
        self.text = text


class UnreachableError(FSFError):
    """The dashboard cannot be reached for now."""


class JobsClient(JobSubmissionClient):
    """Ray's client of the jobs API; every request has a time limit.

    Raises:
        UnreachableError: from every request, if the connection fails or a proxy in front of the dashboard says so.
        RequestFailedError: from every request that the dashboard refuses.
        ClusterError: from every request that it does not authenticate.
    """

    def __init__(self, address: str, *, headers: Mapping[str, str], verify: bool | str) -> None:
        with _only_address(address):
            super().__init__(address, headers=dict(headers), verify=verify)

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of every request, the token among them."""
        return dict(self._headers)

    @property
    def ssl_context(self) -> Any:
        """Return what aiohttp takes as `ssl`."""
        return True if self._ssl_context is None else self._ssl_context

    def session(self) -> str:
        """Return the name of the cluster's session: another one after its head was started again."""
        return str(self._do_request("GET", "/api/version").json().get("session_name"))

    def upload(self, name: str, content: bytes) -> None:
        """Store bytes in the cluster under a name, in the memory of its head."""
        response = self._do_request("PUT", PACKAGES + name, data=content)
        if response.status_code != requests.codes.ok:
            self._raise_error(response)

    def _do_request(self, method: str, endpoint: str, **kwargs: Any) -> requests.Response:
        try:
            response = super()._do_request(method, endpoint, timeout=TIMEOUT_S, **kwargs)
        except AuthenticationError as error:
            reason = _first_line(str(error))
            raise ClusterError(f"the cluster refuses this client: {reason}; {_AUTHENTICATE}") from error
        except requests.exceptions.SSLError as error:
            raise ClusterError(
                f"the certificate of {redact(self._address)} is refused: {_reason(error)}; pass --verify with the file "
                "of its certificate authority"
            ) from error
        except requests.RequestException as error:
            raise UnreachableError(_reason(error)) from error
        if response.status_code in {502, 503, 504}:
            raise UnreachableError(f"a proxy responded with status {response.status_code}")
        return response

    def _raise_error(self, response: requests.Response) -> NoReturn:
        raise RequestFailedError(response.status_code, response.text)


def connect(address: str | None, *, headers: str | None, verify: str) -> JobsClient:
    """Return a client of a cluster that runs the same Ray as this machine.

    Raises:
        ConfigError: address, headers or certificate are none.
        ClusterError: no dashboard responds there, it refuses this client, or it is one of another Ray.
    """
    url = dashboard_url(address)
    found_headers, found_verify = _headers(headers), _verify(verify)
    deadline = time.monotonic() + PROBE_S
    while True:
        try:
            client = JobsClient(url, headers=found_headers, verify=found_verify)
            break
        except UnreachableError as error:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"no dashboard responds at {redact(url)}: {error}; {_EXAMPLE}: start the cluster, or correct "
                    "--address"
                ) from error
            time.sleep(RETRY_S)
        except FSFError:
            raise
        except Exception as error:  # Ray's client raises what reading a response of something else raises
            raise ClusterError(
                f"what listens at {redact(url)} is no dashboard of Ray ({type(error).__name__}); {_EXAMPLE}"
            ) from error
    _require_same_ray(str(client._server_ray_version), url)  # noqa: SLF001 - has no public name
    return client


def dashboard_url(address: str | None) -> str:
    """Return the address that was given, else that of the environment.

    Ray's own client prefers the environment.

    Raises:
        ConfigError: there is none, or it is not the address of a dashboard.
    """
    source = "--address"
    if address is None:
        source = next((name for name in ADDRESS_VARIABLES if os.environ.get(name)), "")
        address = os.environ.get(source)
    if not address:
        raise ConfigError(f"no cluster is named, {_EXAMPLE}; pass --address, or set {ADDRESS_VARIABLES[0]}")
    match = re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", address)
    if match is None:
        raise ConfigError(f"{source} is {redact(address)!r}, {_EXAMPLE}; pass it with --address")
    return address.rstrip("/")


def _require_same_ray(version: str, url: str) -> None:
    """Refuse a cluster of another Ray.

    Raises:
        ClusterError: it is one.
    """
    if version.split(".")[:2] != ray.__version__.split(".")[:2]:
        raise ClusterError(
            f"the cluster at {redact(url)} runs Ray {version}, this machine has {ray.__version__}, expected the same; "
            f"install ray=={version} here, or use a cluster whose image has {ray.__version__}"
        )


def _headers(text: str | None) -> dict[str, str]:
    """Return the headers of a JSON object.

    Raises:
        ConfigError: it is none.
    """
    text = text or os.environ.get(HEADERS_VARIABLE)
    if not text:
        return {}
    try:
        headers = json.loads(text)
    except ValueError:
        headers = None
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise ConfigError(
            f"--headers or {HEADERS_VARIABLE} is no JSON object of text, expected one such as "
            '{"X-Name": "value"}; correct it'
        )
    return headers


def _verify(text: str) -> bool | str:
    """Return whether to verify certificates, or the file of a certificate authority.

    Raises:
        ConfigError: there is no such file.
    """
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if not os.path.exists(text):  # noqa: PTH110 - a folder, too
        raise ConfigError(f"--verify is {text!r}, expected true, false, or a file of certificates; check the path")
    return text


@contextlib.contextmanager
def _only_address(address: str) -> Iterator[None]:
    """Make Ray's client use this address, which it replaces by that of the environment otherwise."""
    name = ADDRESS_VARIABLES[0]
    previous = os.environ.get(name)
    os.environ[name] = address
    try:
        yield
    finally:
        os.environ.pop(name)
        if previous is not None:
            os.environ[name] = previous


def _reason(error: BaseException) -> str:
    """Return what went wrong with a connection: the innermost error has it."""
    while (
        cause := error.__cause__
        or error.__context__
        or next((arg for arg in error.args if isinstance(arg, BaseException)), None)
    ):
        error = cause
    strerror = getattr(error, "strerror", None)
    return redact(str(strerror or error).splitlines()[0] if str(strerror or error) else type(error).__name__)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2][:500]
