"""Caches of machine code: next to the source, and in the user's cache folder where the source is read-only."""

from collections.abc import Callable
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache, InTreeCacheLocator


def cache_of(function: Callable[..., Any]) -> FunctionCache:
    """Return numba's own cache if it is next to the source, else one that reads there too."""
    try:
        own = FunctionCache(function)
    except RuntimeError:  # neither this folder nor the user's cache folder is writable
        return _InstalledCache(function)
    installed = _InstalledCache(function)
    return own if own.cache_path == installed.cache_path else _LayeredCache(function, installed)


class _InstalledLocator(InTreeCacheLocator):
    """The folder next to the source, for reading: numba's own locator skips it if it cannot be written."""

    def ensure_cache_path(self) -> None:
        """Accept the folder as it is."""


class _InstalledImpl(CompileResultCacheImpl):
    _locator_classes = [_InstalledLocator]  # noqa: RUF012 # as numba declares it


class _InstalledCache(FunctionCache):
    """The cache that was filled when the package was installed, such as in a container image."""

    _impl_class = _InstalledImpl

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load machine code, or nothing where it is missing, unreadable, or another processor's."""
        try:
            return super().load_overload(sig, target_context)
        except OSError:
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save nothing: the process that compiled has what it needs."""


class _LayeredCache(FunctionCache):
    """The user's cache, which holds only what the installed one lacks."""

    def __init__(self, function: Callable[..., Any], installed: _InstalledCache) -> None:
        super().__init__(function)
        self._installed = installed

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load machine code from the installed cache, else from the user's."""
        return self._installed.load_overload(sig, target_context) or super().load_overload(sig, target_context)
