from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sizeloss_monai.__main__ import main
from sizeloss_monai.dicom.service import read_config
from sizeloss_monai.errors import DataError


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {
        "ae_title": "SIZELOSS",
        "port": 11112,
        "calling_ae_titles": ["PACS", "WORKSTATION"],
        "dicomweb_url": "https://pacs.example/dicom-web",
        "bundle": str(tmp_path),
        "spool": str(tmp_path / "spool"),
        "sop_classes": ["MRImageStorage", "EnhancedMRImageStorage"],
    }


def read(tmp_path: Path, settings: Any) -> Any:
    path = tmp_path / "service.yaml"
    path.write_text(yaml.safe_dump(settings))
    return read_config(path)


def test_settings_are_read(tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACS_USER", "me")
    monkeypatch.setenv("PACS_PASSWORD", "secret")
    names = {"user_variable": "PACS_USER", "password_variable": "PACS_PASSWORD"}
    config = read(tmp_path, settings | names | {"quiet_seconds": 5})
    assert config.calling_ae_titles == ("PACS", "WORKSTATION")
    assert config.sop_class_uids == {"1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"}
    assert config.spool == tmp_path / "spool"
    assert config.credentials == ("me", "secret")
    assert "secret" not in repr(config)
    assert read(tmp_path, settings).credentials is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"port": 0}, "port: found 0"),
        ({"port": 70000}, "port: found 70000, expected a port from 1 to 65535"),
        ({"port": "11112"}, "port: found '11112'"),
        ({"port": True}, "port: found True"),
        ({"port": 104.5}, "port: found 104.5, expected a whole number"),
        ({"max_series": -1}, "max_series: found -1"),
        ({"ae_title": "SEVENTEEN_LETTERS"}, "ae_title: found 'SEVENTEEN_LETTERS'"),
        ({"ae_title": None}, "ae_title: found None"),
        ({"ae_title": " A"}, "ae_title: found ' A'"),
        ({"calling_ae_titles": ["A\\B"]}, "calling_ae_titles: found"),
        ({"calling_ae_titles": []}, "expected a list with at least one entry"),
        ({"calling_ae_titles": "PACS"}, "expected a list with at least one entry"),
        ({"sop_classes": ["MRImage"]}, "sop_classes: found 'MRImage', expected a storage class"),
        ({"sop_classes": ["Verification"]}, "sop_classes: found 'Verification'"),
        ({"quiet_seconds": float("nan")}, "quiet_seconds: found nan, expected a positive number"),
        ({"max_megabytes": 0}, "max_megabytes: found 0"),
        ({"dicomweb_url": "pacs.example"}, "dicomweb_url: found 'pacs.example'"),
        ({"dicomweb_url": 3}, "dicomweb_url: found 3"),
        ({"bundle": "/no/such/bundle"}, "bundle: found '/no/such/bundle', expected an existing folder"),
        ({"host": ""}, "host: found ''"),
        ({"device": 0}, "device: found 0"),
        ({"user_variable": "A_USER"}, "expected both or neither"),
        (
            {"user_variable": "NOT_SET_1", "password_variable": "NOT_SET_2"},
            "user_variable: the environment variable NOT_SET_1 is not set",
        ),
        ({"quite_seconds": 3}, r"unknown key\(s\) quite_seconds"),
    ],
)
def test_bad_values_are_told(tmp_path: Path, settings: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, settings | change)
    assert str(caught.value).startswith(str(tmp_path / "service.yaml"))


def test_a_password_in_the_address_is_refused_and_not_shown(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="expected user_variable") as caught:
        read(tmp_path, settings | {"dicomweb_url": "http://me:secret@pacs.example/"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["ae_title", "port", "calling_ae_titles", "dicomweb_url", "bundle", "spool"])
def test_missing_keys_are_told(tmp_path: Path, settings: dict[str, Any], key: str) -> None:
    del settings[key]
    with pytest.raises(DataError, match=rf"the key\(s\) {key} are missing"):
        read(tmp_path, settings)


@pytest.mark.parametrize("content", [["a"], None, "text"])
def test_something_else_than_settings(tmp_path: Path, content: Any) -> None:
    with pytest.raises(DataError, match="expected a mapping"):
        read(tmp_path, content)


def test_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "service.yaml").write_text("a: [")
    with pytest.raises(DataError, match="no YAML"):
        read_config(tmp_path / "service.yaml")


def test_the_command_tells_an_error_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "service.yaml").write_text("port: 5")
    assert main(["dicom-service", "--config", str(tmp_path / "service.yaml")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "are missing" in err
