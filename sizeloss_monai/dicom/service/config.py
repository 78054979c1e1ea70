"""The settings of the service: a YAML file that is checked before the service listens."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, DirectoryPath, Field, HttpUrl, ValidationError, model_validator
from pynetdicom import AllStoragePresentationContexts, sop_class

from sizeloss_monai.errors import DataError

__all__ = ["ServiceConfig", "read_config"]


class _UserError(ValueError):
    """The settings of the PACS's user contradict each other; the text is the whole message, without values."""


def _storage_uid(name: Any) -> str | None:
    """The UID of a storage SOP class; None if the standard has no such class."""
    uid = getattr(sop_class, name, None) if isinstance(name, str) else None
    return uid if uid in {context.abstract_syntax for context in AllStoragePresentationContexts} else None


def _ae_title(value: Any) -> Any:
    # PS3.5, 6.2: printable ASCII characters without backslash, the first and the last not blank
    if not isinstance(value, str) or not re.fullmatch(r"(?=[^ ])[ -\[\]-~]{1,16}(?<! )", value):
        raise ValueError("an AE title: 1 to 16 ASCII characters without backslash")
    return value


def _storage_class(value: Any) -> Any:
    if _storage_uid(value) is None:
        raise ValueError("a storage class, such as MRImageStorage")
    return value


def _folder(value: Any) -> str:
    """The path of a folder, which need not exist."""
    path = os.path.expanduser(value) if isinstance(value, (str, Path)) else ""
    if not path or os.path.isfile(path):
        raise ValueError("a folder")
    return path


def _address(value: Any) -> str:
    """The address of a DICOMweb server; an error quotes none that may hold a password."""
    if re.match(r"(\w+:/*)?[^/?#]*@", str(value)):
        raise _UserError("found a user in the address, expected user_variable and password_variable")
    try:
        return str(HttpUrl(value)).rstrip("/")
    except ValidationError:
        raise ValueError("an http(s) address") from None


# A message says what a setting must be: by the text of a ValueError, or else by the description of the field.
_AeTitle = Annotated[str, BeforeValidator(_ae_title)]
_StorageClass = Annotated[str, BeforeValidator(_storage_class)]
_Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False, description="a positive number")]
_A_LIST = "a list with at least one entry"
_A_VARIABLE = "the name of an environment variable"


class ServiceConfig(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """What a site sets.

    Args:
        ae_title: AE title of the service. It rejects associations that call another one.
        port: the service listens on it.
        calling_ae_titles: AE titles that may send to it.
        dicomweb_url: address of the PACS's DICOMweb server, such as ``http://127.0.0.1:8042/dicom-web``. The service
            searches it and stores the segmentations there.
        bundle: folder of the bundle.
        spool: folder for the series that wait. The service makes it if needed, readable by its own user only.
        sop_classes: SOP classes that the service receives, by the standard's keywords, such as ``MRImageStorage``.
        host: address on which it listens.
        user_variable: name of the environment variable with the PACS's user; None for no user.
        password_variable: name of the environment variable with that user's password.
        quiet_seconds: a series is complete when no instance of it came for that long.
        incomplete_seconds: how long a series waits, after its last instance, for instances that the PACS has and did
            not send.
        max_series: series that may wait. The service refuses further ones with status 0xA700; the PACS sends them
            later.
        max_megabytes: size of all instances in the spool (1 MB is 1e6 bytes). The service refuses new series from
            nine tenths on, so that those which have begun can end.
        keep_failed_days: how long the service keeps a failed series; it keeps it shorter where the spool is full.
        keep_done_days: how long the service remembers which instances of a series it segmented.
        device: of torch, such as ``cpu``; None for the GPU where there is one.
    """

    ae_title: _AeTitle
    port: int = Field(strict=True, gt=0, lt=1 << 16, description="a port, a whole number from 1 to 65535")
    calling_ae_titles: tuple[_AeTitle, ...] = Field(min_length=1, description=_A_LIST)
    dicomweb_url: Annotated[str, BeforeValidator(_address)]
    bundle: Annotated[DirectoryPath, BeforeValidator(_folder)] = Field(description="an existing folder")
    spool: Annotated[Path, BeforeValidator(_folder)]
    sop_classes: tuple[_StorageClass, ...] = Field(min_length=1, description=_A_LIST)
    host: str = Field(default="127.0.0.1", min_length=1, description="an address, such as 127.0.0.1")
    user_variable: str | None = Field(default=None, description=_A_VARIABLE)
    password_variable: str | None = Field(default=None, description=_A_VARIABLE)
    quiet_seconds: _Positive = 30.0
    incomplete_seconds: _Positive = 3600.0
    max_series: int = Field(default=100, strict=True, gt=0, description="a positive whole number")
    max_megabytes: _Positive = 20_000.0
    keep_failed_days: _Positive = 7.0
    keep_done_days: _Positive = 90.0
    device: str | None = Field(default=None, description="a device, such as cpu")

    @model_validator(mode="after")
    def _check_user(self) -> ServiceConfig:
        variables = {key: getattr(self, key) for key in ("user_variable", "password_variable")}
        if len(set(map(type, variables.values()))) > 1:
            raise _UserError(f"{', '.join(variables)}: found one of them, expected both or neither")
        for key, name in variables.items():
            if name is not None and name not in os.environ:
                raise _UserError(f"{key}: the environment variable {name} is not set")
        return self

    @property
    def sop_class_uids(self) -> frozenset[str]:
        """The UIDs of ``sop_classes``."""
        return frozenset(uid for name in self.sop_classes if (uid := _storage_uid(name)))

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password of the PACS, from the environment; None if the settings name no variables."""
        if not self.user_variable or not self.password_variable:
            return None
        return os.environ[self.user_variable], os.environ[self.password_variable]


def read_config(path: str | os.PathLike[str]) -> ServiceConfig:
    """Read the settings from a YAML file.

    Args:
        path: the file: a mapping from the names of `ServiceConfig`'s arguments to their values.

    Raises:
        DataError: if the file holds no such mapping, lacks a key, has an unknown one, or a value cannot be used.
        OSError: if the file cannot be read.
    """
    try:
        content: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise DataError(f"{path}: expected YAML, got: {' '.join(str(err).split())}.") from err
    if not isinstance(content, dict):
        raise DataError(f"{path}: found {type(content).__name__}, expected a mapping of settings.")
    try:
        return ServiceConfig.model_validate(content)
    except ValidationError as err:
        raise DataError(f"{path}: {_told(err.errors())}") from None


def _told(errors: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong with the settings: with their keys, or else with each value."""
    unknown = sorted(str(error["loc"][0]) for error in errors if error["type"] in ("extra_forbidden", "invalid_key"))
    if unknown:
        known = ", ".join(ServiceConfig.model_fields)
        return f"found the unknown key(s) {', '.join(unknown)}, expected among {known}."
    missing = [str(error["loc"][0]) for error in errors if error["type"] == "missing"]
    if missing:
        return f"the key(s) {', '.join(missing)} are missing."
    sentences: dict[str, str] = {}  # by key: pydantic also counts the entries of a list that it could use
    for error in errors:
        key = str(error["loc"][0]) if error["loc"] else ""
        expected = error.get("ctx", {}).get("error") or (key and ServiceConfig.model_fields[key].description)
        said = expected if isinstance(expected, _UserError) else f"found {error['input']!r}, expected {expected}"
        sentences.setdefault(key, f"{key}: {said}." if key else f"{said}.")
    return " ".join(sentences.values())
