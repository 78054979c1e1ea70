from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from sizeloss_monai.dicom.service.pacs import Pacs, PacsRefusedError, PacsUnavailableError
from tests.support.dicom_service import service_series


@pytest.fixture
def answers() -> Iterator[Callable[[int, str], Pacs]]:
    """A server that gives one answer."""
    servers = []

    def make(status: int, content: str) -> Pacs:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = content.encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/dicom+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return Pacs(f"http://127.0.0.1:{servers[-1].server_port}")

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def instance() -> Dataset:  # type: ignore[no-untyped-def]
    return service_series(1)[0]


Answers = Callable[[int, str], Pacs]


@pytest.mark.parametrize("status", [401, 403, 408, 429, 502, 503, 504])
def test_passing_troubles(answers: Answers, instance: Dataset, status: int) -> None:
    pacs = answers(status, "")
    for request in (pacs.has, pacs.store):
        with pytest.raises(PacsUnavailableError, match=f"^HTTP {status}$") as caught:
            request(instance)
        assert caught.value.passes


def test_an_internal_error_may_be_of_the_request(answers: Answers, instance: Dataset) -> None:
    with pytest.raises(PacsUnavailableError) as caught:
        answers(500, "").store(instance)
    assert not caught.value.passes


def test_nobody_there(answers: Answers, instance: Dataset) -> None:
    with pytest.raises(PacsUnavailableError, match=r"^Connect") as caught:
        Pacs("http://127.0.0.1:1/dicom-web").has(instance)
    assert caught.value.passes
    assert instance.StudyInstanceUID not in str(caught.value)


def test_something_else_than_a_pacs(answers: Answers, instance: Dataset) -> None:
    with pytest.raises(PacsUnavailableError, match=r"^JSONDecodeError$"):
        answers(200, "<html>").has(instance)


@pytest.mark.parametrize("status", [400, 409, 413, 415])
def test_refusals(answers: Answers, instance: Dataset, status: int) -> None:
    with pytest.raises(PacsRefusedError, match=f"^HTTP {status}$"):
        answers(status, "").store(instance)


def test_a_refusal_within_a_successful_answer(answers: Answers, instance: Dataset) -> None:
    failed = '{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [272]}}]}}'
    with pytest.raises(PacsRefusedError, match=r"^failure reason 0x0110$"):
        answers(200, failed).store(instance)


@pytest.mark.parametrize("status", [200, 204, 404])
def test_nothing_found(answers: Answers, instance: Dataset, status: int) -> None:
    pacs = answers(status, "[]" if status == 200 else "")
    assert not pacs.has(instance)
    assert pacs.instances("1.2", "1.3", frozenset(["1.4"])) == []


def test_what_is_found(answers: Answers, instance: Dataset) -> None:
    uid, other = str(instance.SOPInstanceUID), generate_uid()

    def item(sop_class: str, instance_uid: str) -> str:
        return (
            f'{{"00080016": {{"vr": "UI", "Value": ["{sop_class}"]}},'
            f' "00080018": {{"vr": "UI", "Value": ["{instance_uid}"]}}}}'
        )

    pacs = answers(200, f"[{item('1.4', uid)}, {item('1.5', other)}]")
    assert pacs.instances("1.2", "1.3", frozenset(["1.4"])) == [uid]
    assert pacs.has(instance)
    instance.SOPInstanceUID = generate_uid()
    assert not pacs.has(instance)  # a server that does not filter
