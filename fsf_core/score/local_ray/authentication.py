"""The token of a local cluster: without it any user of the machine could run code in the cluster."""

import contextlib
import os
import secrets
from collections.abc import Iterator

from ray import _raylet

MODE, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"


@contextlib.contextmanager
def private_token() -> Iterator[None]:
    """Give the cluster that is started in the block a token that only this process and its children know.

    `ray.init` switches token authentication on for a cluster that it starts, unless RAY_AUTH_MODE is set, and takes the
    token from the environment; without one it would write ~/.ray/auth_token, which later clusters of this user find.
    Afterwards the process can join a cluster without tokens again: Ray caches both mode and token.
    """
    if any(name.startswith("RAY_AUTH_") for name in os.environ):  # the user decides
        yield
        return
    os.environ[TOKEN] = secrets.token_hex(32)
    try:
        yield
    finally:
        os.environ.pop(TOKEN)
        os.environ.pop(MODE, None)
        # The order is that of reset_auth_token_state in Ray's _private/authentication_test_utils.py. A missing name
        # only affects a later job of this process that joins a cluster.
        with contextlib.suppress(AttributeError):
            _raylet.Config.initialize("")  # type: ignore[attr-defined] # as below
            _raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined] # not in the stubs
