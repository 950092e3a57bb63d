"""Options of `fsf submit`."""

from dataclasses import dataclass

from cyclopts import Parameter

from fsf_core.config.values import flag
from fsf_core.errors import ConfigError
from fsf_core.options import Ship


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SubmitConfig:
    """Options of `fsf submit`."""

    address: str | None = None
    """Address of the dashboard, such as http://HEAD:8265 (default: RAY_API_SERVER_ADDRESS, else RAY_ADDRESS)."""
    submission_id: str | None = None
    """Id of the job (default: day, command, folder and a digest). If it runs the same command already, follow it."""
    attach: str | None = None
    """Follow the job of this id instead of submitting one."""
    wait: bool = True
    """Follow the job to its end. With --no-wait, return as soon as it runs and has its settings."""
    ship: Ship = "auto"
    """Send this program's code to the cluster: always, never, or if the cluster lacks it or has another."""
    credentials: bool = True
    """Pass the store variables of this shell, sealed. Without them, the job has those of the cluster's machines."""
    python: str = "python"
    """Python on the head of the cluster that has Ray, and the libraries of fsf."""
    driver_cpus: float = 0.0
    """CPUs to reserve for the job's driver; above 0, it may run on any node instead of the head."""
    stop_wait_s: int = 300
    """Longest time that a job may take to stop after Ctrl-C, SIGTERM or `ray job stop`, in seconds."""
    reconnect_s: float = 900.0
    """Longest time without a connection to the cluster, in seconds; the job itself goes on."""
    headers: str | None = None
    """Headers for a proxy in front of the dashboard, as a JSON object (default: RAY_JOB_HEADERS)."""
    verify: str = "true"
    """Verify certificates of https: true, false, or a file of certificate authorities."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one is out of range.
        """
        for name, least in (("driver_cpus", 0), ("stop_wait_s", 1), ("reconnect_s", 1)):
            if not getattr(self, name) >= least:
                raise ConfigError(f"{flag(name)} is {getattr(self, name)}, expected at least {least}")
