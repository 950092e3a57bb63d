"""A dashboard behind TLS: its certificate is verified, and so is that of the connection to the log."""

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fsf_core.errors import ClusterError
from fsf_core.submit.follow import Follower, View
from fsf_core.submit.jobs_client import connect
from tests.support.dashboard import Dashboard, Job, dashboard


def _certificate(folder: Path) -> Path:
    """Write a self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dashboard")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(private)
    return folder / "certificate.pem"


@pytest.mark.parametrize("trusts", [True, False])
def test_a_certificate_is_accepted_if_its_authority_is_named(
    served: Dashboard, tmp_path: Path, *, trusts: bool
) -> None:
    certificate = _certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, tmp_path / "key.pem")
    with dashboard(tls) as behind_tls:
        if not trusts:
            with pytest.raises(ClusterError, match=r"the certificate of https://.* is refused: .*; pass --verify with"):
                connect(behind_tls.address, headers=None, verify="true")
            return
        behind_tls.jobs["night"] = Job(log="a line\n", status="SUCCEEDED", driver_exit_code=0)
        behind_tls.is_log_lost = True
        lines: list[str] = []
        client = connect(behind_tls.address, headers=None, verify=str(certificate))
        view = View(line=lines.append, note=lines.append)
        ended = Follower(client, "night", view, handover=None, stop_wait_s=1, reconnect_s=9).run()

    assert (ended.outcome.code, lines) == (0, ["a line"])
