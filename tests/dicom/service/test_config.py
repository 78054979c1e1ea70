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


def test_the_home_folder_is_put_in(tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = read(tmp_path, settings | {"bundle": "~", "spool": "~/new/spool"})
    assert (config.bundle, config.spool) == (tmp_path, tmp_path / "new" / "spool")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"port": 0}, "port: found 0"),
        ({"port": 70000}, "port: found 70000, expected a port, a whole number from 1 to 65535"),
        ({"port": "11112"}, "port: found '11112'"),
        ({"port": True}, "port: found True"),
        ({"port": 104.5}, "port: found 104.5, expected a port, a whole number"),
        ({"max_series": -1}, "max_series: found -1"),
        ({"ae_title": "SEVENTEEN_LETTERS"}, "ae_title: found 'SEVENTEEN_LETTERS'"),
        ({"ae_title": None}, "ae_title: found None"),
        ({"ae_title": " A"}, "ae_title: found ' A'"),
        ({"calling_ae_titles": ["A\\B"]}, "calling_ae_titles: found"),
        ({"calling_ae_titles": []}, "expected a list with at least one entry"),
        ({"calling_ae_titles": "PACS"}, "expected a list with at least one entry"),
        ({"sop_classes": ["MRImage"]}, r"sop_classes: found 'MRImage', expected a storage class, such as \w+\.$"),
        ({"sop_classes": ["Verification"]}, "sop_classes: found 'Verification'"),
        ({"quiet_seconds": float("nan")}, "quiet_seconds: found nan, expected a positive number"),
        ({"max_megabytes": 0}, "max_megabytes: found 0"),
        ({"dicomweb_url": "pacs.example"}, "dicomweb_url: found 'pacs.example'"),
        ({"dicomweb_url": 3}, "dicomweb_url: found 3"),
        ({"bundle": "/no/such/bundle"}, "bundle: found '/no/such/bundle', expected an existing folder"),
        ({"spool": ""}, "spool: found '', expected a folder"),
        ({"spool": __file__}, "spool: found .*, expected a folder"),
        ({"bundle": 3}, "bundle: found 3, expected a folder"),
        ({"calling_ae_titles": ["A", 3]}, "calling_ae_titles: found 3, expected an AE title"),
        ({"dicomweb_url": "http://[1"}, r"dicomweb_url: found 'http://\[1', expected an http\(s\) address"),
        ({"port": 0, "host": ""}, r"port: found 0, .*65535\. host: found '', expected an address"),
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


@pytest.mark.parametrize("url", ["http://me:secret@pacs.example/", "http://me:secret@[1", "me:secret@pacs.example"])
def test_a_password_in_the_address_is_refused_and_not_shown(tmp_path: Path, settings: dict[str, Any], url: str) -> None:
    with pytest.raises(DataError, match="expected user_variable") as caught:
        read(tmp_path, settings | {"dicomweb_url": url})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["ae_title", "port", "calling_ae_titles", "dicomweb_url", "bundle", "spool"])
def test_missing_keys_are_told(tmp_path: Path, settings: dict[str, Any], key: str) -> None:
    del settings[key]
    with pytest.raises(DataError, match=rf"the key\(s\) {key} are missing"):
        read(tmp_path, settings)


def test_a_key_that_is_not_a_text(tmp_path: Path, settings: dict[Any, Any]) -> None:
    with pytest.raises(DataError, match=r"unknown key\(s\) 5, expected among ae_title, port"):
        read(tmp_path, settings | {5: "x"})


@pytest.mark.parametrize("content", [["a"], None, "text"])
def test_something_else_than_settings(tmp_path: Path, content: Any) -> None:
    with pytest.raises(DataError, match="expected a mapping"):
        read(tmp_path, content)


def test_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "service.yaml").write_text("a: [")
    with pytest.raises(DataError, match="expected YAML"):
        read_config(tmp_path / "service.yaml")


def test_the_command_tells_an_error_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "service.yaml").write_text("port: 5")
    assert main(["dicom-service", "--config", str(tmp_path / "service.yaml")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "are missing" in err
