"""The variables that configure stores: which of them travel from process to process, and how they are applied.

A file that such a variable names travels as its content, and is kept in memory on the other side.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from fsf_core.errors import StorageError

STORE_VARIABLES = ("AWS_", "GOOGLE_", "GCSFS_", "STORAGE_EMULATOR_HOST", "AZURE_", "HF_", "FSSPEC_")
"""Prefixes of the variables that configure stores; the workers of a joined cluster get them from the driver."""

NODE_VARIABLES = ("AWS_CONTAINER_", "AWS_EXECUTION_ENV", "AWS_LAMBDA_", "AWS_CA_BUNDLE")
"""Prefixes of those of them that are valid on one machine only."""

_CREDENTIALS = {
    "AWS_": (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SECURITY_TOKEN",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONFIG_FILE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    ),
    "GOOGLE_": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_API_KEY"),
    "AZURE_": (
        "AZURE_STORAGE_CONNECTION_STRING",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_CLIENT_SECRET",
        "AZURE_CLIENT_CERTIFICATE_PATH",
        "AZURE_CLIENT_CERTIFICATE_PASSWORD",
        "AZURE_CLIENT_ID",
        "AZURE_TENANT_ID",
        "AZURE_USERNAME",
        "AZURE_PASSWORD",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_AUTHORITY_HOST",
    ),
    "HF_": ("HF_TOKEN", "HF_TOKEN_PATH"),
}
"""Store to the variables that are credentials there. They belong together: two sets of them are never mixed."""

_OF_THIS_MACHINE = (
    *NODE_VARIABLES,
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
    "HF_HOME",
    "HF_HUB_",
    "HF_ASSETS_",
    "HF_XET_",
    "HF_DATASETS_",
    "HF_MODULES_",
)
"""Prefixes of the variables that mean something on the submitting machine only: the identity of a pod, caches."""

_FILES = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "HF_TOKEN_PATH",
)
"""Variables that name a file of credentials; its content travels."""

MAX_FILE_BYTES = 1 << 20


def driver_settings(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the store settings of a driver that the nodes of its cluster may lack."""
    return {
        name: value
        for name, value in (os.environ if environ is None else environ).items()
        if name.startswith(STORE_VARIABLES) and not name.startswith(NODE_VARIABLES)
    }


def submitted_settings(environ: Mapping[str, str] | None = None) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the store settings of a shell that submits to a cluster elsewhere: variables, and contents of files.

    Raises:
        StorageError: a variable names a file that cannot be read, or a profile of this machine.
    """
    variables = {
        name: value
        for name, value in driver_settings(environ).items()
        if value and not name.startswith(_OF_THIS_MACHINE)
    }
    profile = next((name for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE") if name in variables), None)
    if profile and not {"AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"} & set(variables):
        raise StorageError(
            f"{profile} names a profile of this machine's ~/.aws, expected credentials that the cluster can use; set "
            "those that `aws configure export-credentials --format env` prints, or pass --no-credentials"
        )
    return variables, {name: _read(name, variables.pop(name)) for name in _FILES if name in variables}


def _read(name: str, path: str) -> bytes:
    """Return the content of a file of credentials.

    Raises:
        StorageError: it cannot be read, is too large, or refers to other files of this machine.
    """
    do = f"correct {name}, or pass --no-credentials"
    try:
        with Path(path).expanduser().open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise StorageError(f"{name} names {path}, which cannot be read: {error.strerror}; {do}") from error
    if len(content) > MAX_FILE_BYTES:
        raise StorageError(f"{name} names {path}, expected a file of at most {MAX_FILE_BYTES >> 20} MiB; {do}")
    if name == "GOOGLE_APPLICATION_CREDENTIALS" and b'"external_account' in content:
        raise StorageError(
            f"{name} names {path}, an external account, which refers to this machine; expected a service account; {do}"
        )
    return content


def apply_settings(variables: Mapping[str, str], files: Mapping[str, bytes]) -> None:
    """Set the store settings of this process; credentials replace all earlier ones of the same store.

    /proc/PID/environ shows a process as it was started, hence none of them. Files exist in memory only, for this
    process and its children. To be called before fsspec is imported, which reads its variables then.
    """
    _hook(variables, files)()
    for name, content in files.items():
        _held[os.environ[name]] = content


def settings_hook() -> Callable[[], None]:
    """Return what every worker of a joined cluster runs first. A function: Ray logs the variables of a runtime_env."""
    variables = driver_settings()
    in_memory = [name for name in _FILES if variables.get(name) in _held]
    return _hook(variables, {name: _held[variables.pop(name)] for name in in_memory})


def _hook(variables: Mapping[str, str], files: Mapping[str, bytes]) -> Callable[[], None]:
    """Return a function that holds all it needs: another process runs it before it imports this package."""
    given = {*variables, *files}
    replaced = [name for names in _CREDENTIALS.values() if given.intersection(names) for name in names]
    settings, contents = dict(variables), dict(files)
    salt = os.urandom(16)  # Ray shows a hash of the function, from which a short password could be guessed

    def set_store_settings(_: bytes = salt) -> None:
        for name in replaced:
            os.environ.pop(name, None)
        os.environ.update(settings)
        for name, content in contents.items():
            descriptor = os.memfd_create(name)
            os.write(descriptor, content)
            os.environ[name] = f"/proc/{os.getpid()}/fd/{descriptor}"

    return set_store_settings


_held: dict[str, bytes] = {}
"""Path of a file in the memory of this process to its content."""
