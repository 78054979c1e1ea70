import subprocess
import sys

import pytest

from sizeloss_monai.bundle import ConfigError, OutputDirError, install_clear_errors
from sizeloss_monai.errors import DataError
from sizeloss_monai.proposals import NonFiniteLogitsError


def wrapped(error, explicit=True):
    """What MONAI makes of an error in a config: wrapped, twice."""
    try:
        try:
            try:
                raise error
            except Exception as inner:
                raise RuntimeError("Failed to instantiate component") from (inner if explicit else None)
        except RuntimeError as middle:
            raise RuntimeError("Failed again") from middle
    except RuntimeError as outer:
        return outer


@pytest.fixture
def hook(monkeypatch):
    """The installed hook, and what reached the one before it."""
    passed_on = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: passed_on.append(args))
    install_clear_errors()
    return sys.excepthook, passed_on


@pytest.mark.parametrize("kind", [ConfigError, DataError, NonFiniteLogitsError, OutputDirError])
@pytest.mark.parametrize("wrap", [lambda e: e, wrapped, lambda e: wrapped(e, explicit=False)])
def test_only_the_message_of_a_wrong_input(hook, capsys, kind, wrap):
    error = wrap(kind("what was wrong"))
    hook[0](type(error), error, error.__traceback__)
    assert capsys.readouterr().err == f"{kind.__name__}: what was wrong\n"
    assert hook[1] == []


@pytest.mark.parametrize("error", [RuntimeError("bug"), wrapped(ValueError("bug")), KeyboardInterrupt()])
def test_other_errors_keep_their_trace(hook, capsys, error):
    hook[0](type(error), error, error.__traceback__)
    assert hook[1] == [(type(error), error, error.__traceback__)]
    assert capsys.readouterr().err == ""


def test_installed_twice_prints_once(hook, capsys):
    install_clear_errors()
    error = wrapped(ConfigError("once"))
    sys.excepthook(type(error), error, error.__traceback__)
    assert capsys.readouterr().err == "ConfigError: once\n"
    bug = RuntimeError("bug")
    sys.excepthook(type(bug), bug, None)
    assert len(hook[1]) == 1


def test_one_line_and_exit_code_1_of_a_process():
    code = """
from sizeloss_monai.bundle import ConfigError, install_clear_errors
install_clear_errors()
try:
    raise ConfigError("'epoch'; did you mean 'epochs'?")
except ConfigError as error:
    raise RuntimeError("Failed to instantiate component") from error
"""
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "ConfigError: 'epoch'; did you mean 'epochs'?"
    assert "Traceback" not in result.stderr
    assert "Failed to instantiate" not in result.stderr
