from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.uid import MPEG2MPML, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, RLELossless
from pynetdicom import AE, Association
from pynetdicom.sop_class import Verification

from sizeloss_monai.dicom.service.config import ServiceConfig
from sizeloss_monai.dicom.service.receiver import start_receiver
from sizeloss_monai.dicom.service.spool import Spool
from tests.support.dicom_service import service_series


@pytest.fixture
def spool(make_spool: Callable[..., Spool]) -> Spool:
    return make_spool(max_series=2)


@pytest.fixture
def call(make_config: Callable[..., ServiceConfig], spool: Spool) -> Iterator[Callable[..., Association]]:
    config = make_config()
    receiver = start_receiver(config, spool)
    opened = []

    def associate(
        calling: str = "ORTHANC", called: str = "SIZELOSS", syntax: str = ExplicitVRLittleEndian
    ) -> Association:
        ae = AE(calling)
        for uid in (Verification, MRImageStorage, CTImageStorage):
            ae.add_requested_context(uid, syntax)
        opened.append(ae.associate("127.0.0.1", config.port, ae_title=called))
        return opened[-1]

    yield associate
    for association in opened:
        if association.is_established:
            association.release()
    receiver.shutdown()


Call = Callable[..., Association]


def test_echo(call: Call) -> None:
    assert call().send_c_echo().Status == 0


@pytest.mark.parametrize(("calling", "called"), [("STRANGER", "SIZELOSS"), ("ORTHANC", "OTHER")])
def test_strangers_are_rejected(call: Call, calling: str, called: str) -> None:
    assert not call(calling, called).is_established


def test_instances_are_kept_as_sent(call: Call, spool: Spool) -> None:
    sent = service_series()
    association = call()
    assert [association.send_c_store(dataset).Status for dataset in sent] == [0, 0, 0]
    series = spool.take()
    assert series is not None
    read = [dcmread(BytesIO(path.read_bytes())) for path in series.folder.iterdir()]
    assert {ds.SOPInstanceUID for ds in read} == {ds.SOPInstanceUID for ds in sent}
    by_uid = {ds.SOPInstanceUID: ds for ds in read}
    for ds in sent:
        assert by_uid[ds.SOPInstanceUID] == ds
        assert by_uid[ds.SOPInstanceUID].file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_other_sop_classes_have_no_presentation_context(call: Call) -> None:
    accepted = {context.abstract_syntax for context in call().accepted_contexts}
    assert accepted == {Verification, MRImageStorage}


def test_transfer_syntaxes_without_decoder_are_not_accepted(call: Call) -> None:
    assert MRImageStorage not in {context.abstract_syntax for context in call(syntax=MPEG2MPML).accepted_contexts}


def test_compressed_syntaxes_with_a_decoder_are(call: Call) -> None:
    assert MRImageStorage in {context.abstract_syntax for context in call(syntax=RLELossless).accepted_contexts}


def test_an_instance_of_another_class_than_announced(call: Call, spool: Spool) -> None:
    (dataset,) = service_series(1)
    association = call()
    context = next(c for c in association.accepted_contexts if c.abstract_syntax == MRImageStorage)
    context.abstract_syntax = CTImageStorage  # what the sender takes it for
    dataset.SOPClassUID = CTImageStorage
    assert association.send_c_store(dataset).Status in (0x0122, 0xA900)
    assert len(spool) == 0


def test_an_instance_without_series(call: Call, spool: Spool) -> None:
    first, second = service_series(2)
    del first.SeriesInstanceUID
    second.StudyInstanceUID = ""
    association = call()
    assert [association.send_c_store(dataset).Status for dataset in (first, second)] == [0xC000, 0xC000]
    assert len(spool) == 0


def test_an_unknown_character_set_is_no_obstacle(call: Call, spool: Spool) -> None:
    (dataset,) = service_series(1)
    dataset.SpecificCharacterSet = ["ISO 2022 IR 6", "ISO 2022 IR 999"]
    assert call().send_c_store(dataset).Status == 0
    assert len(spool) == 1


def test_a_full_queue_asks_to_send_later(call: Call, spool: Spool) -> None:
    association = call()
    status = [association.send_c_store(service_series(1)[0]).Status for _ in range(3)]
    assert status == [0, 0, 0xA700]
    spool.take()
    assert association.send_c_store(service_series(1)[0]).Status == 0
