"""The job that is examined: its options, and its bundle and manifest, which several checks need and one reads."""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from fsf_core import storage
from fsf_core.config import DoctorConfig, ScoreConfig
from fsf_core.doctor.checks import NotCheckedError
from fsf_core.errors import FSFError
from fsf_core.manifest import Manifest, column_types, open_manifest
from fsf_core.model.bundle import Bundle
from fsf_core.model.bundle_files import load_bundle
from fsf_core.score import plan
from fsf_core.score.nights import plan_nights

T = TypeVar("T")


class Once(Generic[T]):
    """The value of a call that is made once, by whichever thread asks first."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call, self._lock = call, threading.Lock()
        self._value: T | None = None
        self._error: FSFError | NotCheckedError | None = None

    def get(self) -> T:
        """Return the value.

        Raises:
            FSFError: what the call raised.
            NotCheckedError: what the call raised.
        """
        with self._lock:
            if self._value is None and self._error is None:
                try:
                    self._value = self._call()
                except (FSFError, NotCheckedError) as error:
                    self._error = error
        if self._error is not None:
            raise self._error
        assert self._value is not None
        return self._value


class Subject:
    """The job of some options."""

    def __init__(self, config: DoctorConfig) -> None:
        self.night = plan_nights(config)[0] if config.out else None
        self.config: ScoreConfig = self.night.config if self.night else config
        self.out = self.night.out if self.night else ""
        """Absolute folder of the run; empty without --out."""
        self.bundle = Once(self._load_bundle)
        self.manifest = Once(self._open_manifest)

    def _load_bundle(self) -> Bundle:
        assert self.config.bundle
        return load_bundle(storage.absolute(self.config.bundle))

    def _open_manifest(self) -> Manifest:
        config = self.config
        outputs = [self.out] if self.out else []
        types = column_types.parse(config.column_types)
        return open_manifest(config.manifest, plan.selection(config), outputs=outputs, column_types=types)

    def fingerprint(self) -> dict[str, Any]:
        """Return everything that defines the results of the job.

        Raises:
            NotCheckedError: its bundle or its manifest is not known.
        """
        bundle, manifest = self.required_bundle(), self.required_manifest()
        return plan.fingerprint(self.config, bundle, manifest, plan.class_appearance(self.config, bundle))

    def required_bundle(self) -> Bundle:
        """Return the bundle for another check than its own.

        Raises:
            NotCheckedError: there is none.
        """
        if not self.config.bundle:
            raise NotCheckedError("it needs --bundle")
        try:
            return self.bundle.get()
        except FSFError as error:
            raise NotCheckedError("the bundle cannot be loaded") from error

    def required_manifest(self) -> Manifest:
        """Return the manifest for another check than its own.

        Raises:
            NotCheckedError: there is none.
        """
        if not self.config.manifest:
            raise NotCheckedError("it needs --manifest")
        try:
            return self.manifest.get()
        except FSFError as error:
            raise NotCheckedError("the manifest cannot be opened") from error
