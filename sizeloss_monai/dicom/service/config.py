"""The settings of the service: a YAML file, checked before anything listens."""

from __future__ import annotations

import math
import os
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pynetdicom import AllStoragePresentationContexts, sop_class

from sizeloss_monai.errors import DataError

__all__ = ["ServiceConfig", "read_config"]

_POSITIVE = (
    "port",
    "max_series",
    "max_megabytes",
    "quiet_seconds",
    "incomplete_seconds",
    "keep_failed_days",
    "keep_done_days",
)


@dataclass(frozen=True)
class ServiceConfig:
    """What a site sets.

    Args:
        ae_title: AE title of the service; associations that call another one are rejected.
        port: port on which it listens.
        calling_ae_titles: AE titles that may send to it.
        dicomweb_url: where the segmentations are stored and searched, such as ``http://127.0.0.1:8042/dicom-web``.
        bundle: folder of the bundle.
        spool: folder for what was received and not yet done; made if need be, readable by the service's user only.
        sop_classes: what is received, by the standard's keywords, such as ``MRImageStorage``.
        host: address on which it listens.
        user_variable: name of the environment variable with the PACS's user; None for none.
        password_variable: name of the environment variable with that user's password.
        quiet_seconds: a series is complete when no instance of it came for that long.
        incomplete_seconds: how long a series waits, after its last instance, for those which the PACS has and did not
            send.
        max_series: series that may wait; further ones are refused with status 0xA700, for the PACS to send later.
        max_megabytes: of all instances in the spool (1 MB is 1e6 bytes). New series are refused from nine tenths on,
            so that those which have begun can end.
        keep_failed_days: how long a failed series is kept, less where the spool is full.
        keep_done_days: how long it is remembered which instances of a series were segmented.
        device: of torch, such as ``cpu``; None for the GPU where there is one.

    Raises:
        DataError: if a setting cannot be used.
    """

    ae_title: str
    port: int
    calling_ae_titles: tuple[str, ...]
    dicomweb_url: str
    bundle: Path
    spool: Path
    sop_classes: tuple[str, ...]
    host: str = "127.0.0.1"
    user_variable: str | None = None
    password_variable: str | None = None
    quiet_seconds: float = 30.0
    incomplete_seconds: float = 3600.0
    max_series: int = 100
    max_megabytes: float = 20_000.0
    keep_failed_days: float = 7.0
    keep_done_days: float = 90.0
    device: str | None = None

    def __post_init__(self) -> None:
        for key in ("calling_ae_titles", "sop_classes"):
            value = getattr(self, key)
            _check(key, value, isinstance(value, (list, tuple)) and len(value) > 0, "a list with at least one entry")
            object.__setattr__(self, key, tuple(value))
        for title in (self.ae_title, *self.calling_ae_titles):
            key = "ae_title" if title is self.ae_title else "calling_ae_titles"
            _check(key, title, _is_ae_title(title), "an AE title: 1 to 16 ASCII characters without backslash")
        for name in self.sop_classes:
            _check("sop_classes", name, _storage_uid(name) is not None, "a storage class, such as MRImageStorage")
        for key in _POSITIVE:
            _check(key, getattr(self, key), _is_positive(getattr(self, key)), "a positive number")
        for key in ("port", "max_series"):
            _check(key, getattr(self, key), isinstance(getattr(self, key), int), "a whole number")
        _check("port", self.port, self.port < 1 << 16, "a port from 1 to 65535")
        _check("host", self.host, isinstance(self.host, str) and bool(self.host), "an address, such as 127.0.0.1")
        _check("device", self.device, self.device is None or isinstance(self.device, str), "a device, such as cpu")
        for key in ("bundle", "spool"):
            value = getattr(self, key)
            _check(key, value, isinstance(value, (str, Path)) and bool(str(value)), "a folder")
            object.__setattr__(self, key, Path(value))
        _check("bundle", str(self.bundle), self.bundle.is_dir(), "an existing folder")
        _check("spool", str(self.spool), self.spool.is_dir() or not self.spool.exists(), "a folder")
        self._check_pacs()

    @property
    def sop_class_uids(self) -> frozenset[str]:
        """The UIDs of ``sop_classes``."""
        return frozenset(uid for name in self.sop_classes if (uid := _storage_uid(name)))

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password of the PACS, from the environment; None if no variables are named."""
        if not self.user_variable or not self.password_variable:
            return None
        return os.environ[self.user_variable], os.environ[self.password_variable]

    def _check_pacs(self) -> None:
        """Raise an error if the PACS cannot be called with these settings."""
        url = self.dicomweb_url
        _check("dicomweb_url", url, isinstance(url, str), "a http(s) address")
        parts = urlsplit(url)
        if "@" in parts.netloc:  # not shown: there may be a password in it
            raise DataError("dicomweb_url: found a user in the address, expected user_variable and password_variable.")
        _check("dicomweb_url", url, parts.scheme in ("http", "https") and parts.hostname, "a http(s) address")
        names = (self.user_variable, self.password_variable)
        if (names[0] is None) != (names[1] is None):
            raise DataError("user_variable, password_variable: found one of them, expected both or neither.")
        for key, name in zip(("user_variable", "password_variable"), names, strict=True):
            _check(key, name, name is None or isinstance(name, str), "the name of an environment variable")
            if name is not None and name not in os.environ:
                raise DataError(f"{key}: the environment variable {name} is not set.")


def read_config(path: str | os.PathLike[str]) -> ServiceConfig:
    """The settings of a YAML file.

    Args:
        path: the file: a mapping from the names of `ServiceConfig`'s arguments to their values.

    Raises:
        DataError: if the file is no such mapping, lacks a key, has an unknown one, or a value that cannot be used.
        OSError: if the file cannot be read.
    """
    try:
        content: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise DataError(f"{path}: no YAML: {err}") from err
    if not isinstance(content, dict):
        raise DataError(f"{path}: found {type(content).__name__}, expected a mapping of settings.")
    known = [field.name for field in fields(ServiceConfig)]
    unknown = sorted(str(key) for key in content if key not in known)
    if unknown:
        raise DataError(f"{path}: found the unknown key(s) {', '.join(unknown)}, expected among {', '.join(known)}.")
    missing = [field.name for field in fields(ServiceConfig) if field.default is MISSING and field.name not in content]
    if missing:
        raise DataError(f"{path}: the key(s) {', '.join(missing)} are missing.")
    try:
        return ServiceConfig(**content)
    except DataError as err:
        raise DataError(f"{path}: {err}") from None


def _check(key: str, value: Any, valid: object, expected: str) -> None:
    """Raise an error on the value of a key that is not valid."""
    if not valid:
        raise DataError(f"{key}: found {value!r}, expected {expected}.")


def _is_ae_title(text: Any) -> bool:
    """Whether the text is a value of the representation AE (PS3.5, 6.2), and no padding around it."""
    return (
        isinstance(text, str)
        and 1 <= len(text) <= 16
        and text.isascii()
        and text.isprintable()
        and "\\" not in text
        and text == text.strip()
    )


def _is_positive(value: Any) -> bool:
    """Whether a value is a finite number above 0 (and no bool)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _storage_uid(name: Any) -> str | None:
    """The UID of a storage SOP class; None if no such class is known."""
    uid = getattr(sop_class, name, None) if isinstance(name, str) else None
    return uid if uid in {context.abstract_syntax for context in AllStoragePresentationContexts} else None
