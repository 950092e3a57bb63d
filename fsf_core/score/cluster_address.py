"""The address of a Ray cluster, probed before Ray gets it: Ray waits for minutes, and then ends the process."""

import os
import re
import socket
import threading
import time

from ray import _raylet
from ray._private import services
from ray.exceptions import AuthenticationError

from fsf_core import storage
from fsf_core.errors import ClusterError

CLIENT_SCHEME = "ray://"
PROBE_S = 15.0
"""How long a cluster may take to respond; one that is just starting refuses connections."""

RETRY_S = 1.0
UNAUTHENTICATED = "unauthenticated"
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
"""How an HTTP/2 client begins: its preface, and SETTINGS without an entry."""

HTTP2_SETTINGS = 4
"""Type of the frame that every HTTP/2 server, and so every service of Ray, sends first."""


def require_cluster(address: str) -> None:
    """Refuse an address at which no service of Ray responds.

    Args:
        address: host:port, ray://host:port or auto.

    Raises:
        ClusterError: nothing responds within 15 s, it is no address, or the cluster requires another token.
    """
    host, port = _host_and_port(address)
    reasons = ["no response"]
    responded = threading.Event()

    def probe() -> None:
        while not responded.is_set():
            reason = probe_service(host, port) or (
                None if address.startswith(CLIENT_SCHEME) else _probe_gcs(host, port)
            )
            if reason in {None, UNAUTHENTICATED}:
                reasons.append(reason or "")
                responded.set()
                return
            reasons.append(str(reason))
            time.sleep(RETRY_S)

    # In a thread, because resolving a name and Ray's client take the time that they like.
    threading.Thread(target=probe, daemon=True).start()
    if not responded.wait(PROBE_S):
        responded.set()
        raise ClusterError(
            f"no Ray cluster responds at {storage.redact(address)}: {reasons[-1]}; expected the host:port of a running "
            f"cluster: {REMEDY}"
        )

    if reasons[-1] == UNAUTHENTICATED:
        raise ClusterError(
            f"the Ray cluster at {storage.redact(address)} requires a token, and this process has none or another; set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, as on the head"
        )


REMEDY = "start one, correct --ray-address or RAY_ADDRESS, or leave both unset to run on this machine"


def _host_and_port(address: str) -> tuple[str, int]:
    """Return host and port of an address.

    Raises:
        ClusterError: it has another form, or no cluster runs on this machine.
    """
    if address == "auto":
        try:
            address = services.canonicalize_bootstrap_address_or_die(address)
        except (ConnectionError, ValueError, OSError) as error:
            raise ClusterError(f"no Ray cluster runs on this machine (address auto); {REMEDY}") from error
    match = re.fullmatch(r"\[?([^\[\]/@\s]+?)\]?:(\d{1,5})", address.removeprefix(CLIENT_SCHEME).rstrip("/"))
    if match is None or not 0 < int(match[2]) < 1 << 16:
        raise ClusterError(
            f"the Ray address is {storage.redact(address)!r}, expected host:port, ray://host:port or auto; {REMEDY}"
        )
    return match[1], int(match[2])


def _probe_gcs(host: str, port: int) -> str | None:
    """Return why a service is not that of a cluster's state, or None if it is."""
    try:
        _raylet.GcsClient(address=f"{host}:{port}")  # type: ignore[attr-defined] # not in the stubs
    except AuthenticationError:
        return UNAUTHENTICATED
    except Exception as error:  # noqa: BLE001 - of several types, none of which is documented
        return f"what listens there is not the head of a cluster ({type(error).__name__})"
    return None


def probe_service(host: str, port: int) -> str | None:
    """Return why no service of Ray responds at a port, or None if one does."""
    try:
        with socket.create_connection((host, port), timeout=PROBE_S / 3) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in {"1", "true"}:
                return None
            connection.sendall(HTTP2_PREFACE)
            header = b""
            while len(header) < 9:  # noqa: PLR2004 - bytes of the header of a frame
                received = connection.recv(9 - len(header))
                if not received:
                    return "what listens there is no service of Ray"
                header += received
    except socket.gaierror as error:
        return f"the name {host} cannot be resolved ({error.strerror})"
    except TimeoutError:
        return "no response within 5 s"
    except OSError as error:
        return error.strerror or str(error)
    return None if header[3] == HTTP2_SETTINGS else "what listens there is no service of Ray"
