"""dicomweb-client and pydicom as the outside world: what they store they find again, and read back as it was."""

import io
import unittest

import numpy
import pydicom
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from server import Server, corpus, expectations

STUDY, SERIES = "2.25.1001", "2.25.1001.1"


def image(number, syntax=ExplicitVRLittleEndian, frames=1):
    """A CT image of 6 × 4 pixels whose values tell its number."""
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{SERIES}.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, SERIES
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientID, dataset.PatientName = "P-7", "Übel^Jürgen=山田^太郎"
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20000229", "101112", "A7"
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "CT", 3, number
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 4, 6, frames
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    dataset.PixelData = pixels(number, frames).astype(order).tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.preamble = bytes(128)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def pixels(number, frames=1):
    return (numpy.arange(24 * frames, dtype=numpy.uint16) + 100 * number).reshape(frames, 4, 6)


def content(dataset):
    """The bytes that dicomweb-client sends."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    return buffer.getvalue()


class StoredByDicomwebClient(unittest.TestCase):
    """One server, filled once, read by every test."""

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server())
        cls.client = DICOMwebClient(cls.server.url)
        syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
        cls.images = {number: image(number, syntax, frames=number) for number, syntax in enumerate(syntaxes, start=1)}
        cls.answer = cls.client.store_instances(list(cls.images.values()))

    def test_storing_names_every_instance_and_no_failure(self):
        stored = {item.ReferencedSOPInstanceUID for item in self.answer.ReferencedSOPSequence}
        self.assertEqual(stored, {image.SOPInstanceUID for image in self.images.values()})
        self.assertNotIn("FailedSOPSequence", self.answer)

    def test_a_study_is_found_by_patient_modality_and_date(self):
        for filters in (
            {"PatientID": "P-7"},
            {"PatientName": "Übel*"},
            {"ModalitiesInStudy": "CT"},
            {"StudyDate": "20000101-20001231"},
            {"AccessionNumber": "A7"},
            {"StudyInstanceUID": STUDY},
        ):
            with self.subTest(filters):
                found = [Dataset.from_json(match) for match in self.client.search_for_studies(search_filters=filters)]
                self.assertEqual([match.StudyInstanceUID for match in found], [STUDY])
                self.assertEqual(int(found[0].NumberOfStudyRelatedInstances), len(self.images))
        self.assertEqual(self.client.search_for_studies(search_filters={"PatientID": "P-8"}), [])

    def test_series_and_instances_are_found_below_their_study(self):
        series = self.client.search_for_series(STUDY)
        self.assertEqual([Dataset.from_json(match).SeriesInstanceUID for match in series], [SERIES])
        instances = self.client.search_for_instances(STUDY, SERIES)
        numbers = [int(Dataset.from_json(match).InstanceNumber) for match in instances]
        self.assertEqual(numbers, sorted(self.images))

    def test_metadata_equals_what_pydicom_wrote_apart_from_bulk_data(self):
        metadata = self.client.retrieve_series_metadata(STUDY, SERIES)
        self.assertEqual(len(metadata), len(self.images))
        for json in metadata:
            expected = self.images[json["00200013"]["Value"][0]].to_json_dict()
            # Available Transfer Syntax UID is the server's own word (PS3.18 10.4.1.1.2)
            self.assertEqual(set(json) - {"00083002"}, set(expected))
            for tag, element in expected.items():
                if tag != "7FE00010":
                    with self.subTest(tag):
                        self.assertEqual(json[tag], element)
            self.assertIn("BulkDataURI", json["7FE00010"])

    def test_instances_come_back_with_the_same_pixels_in_explicit_little_endian(self):
        for number, sent in self.images.items():
            wanted = (("application/dicom", ExplicitVRLittleEndian),)
            got = self.client.retrieve_instance(STUDY, SERIES, sent.SOPInstanceUID, media_types=wanted)
            self.assertEqual(got.file_meta.TransferSyntaxUID, ExplicitVRLittleEndian)
            self.assertEqual(got.PatientName, sent.PatientName)
            numpy.testing.assert_array_equal(got.pixel_array.reshape(-1), pixels(number, number).reshape(-1))

    def test_files_leave_byte_for_byte_when_any_transfer_syntax_is_asked_for(self):
        for number in (1, 4):  # explicit and deflated; implicit and big endian leave re-encoded
            sent = self.images[number]
            url = f"{self.server.url}/studies/{STUDY}/series/{SERIES}/instances/{sent.SOPInstanceUID}"
            answer = self.client._http_get(url, headers={"Accept": "application/dicom; transfer-syntax=*"})
            self.assertEqual(answer.content, content(sent))

    def test_frames_come_back_one_by_one_and_as_a_list(self):
        for number, sent in self.images.items():
            for wanted in ([1], [number], list(range(1, number + 1))):
                frames = self.client.retrieve_instance_frames(STUDY, SERIES, sent.SOPInstanceUID, frame_numbers=wanted)
                expected = [pixels(number, number)[frame - 1].astype("<u2").tobytes() for frame in wanted]
                self.assertEqual(frames, expected)

    def test_bulk_data_is_what_its_uri_names(self):
        metadata = self.client.retrieve_instance_metadata(STUDY, SERIES, self.images[1].SOPInstanceUID)
        uri = metadata["7FE00010"]["BulkDataURI"]
        (value,) = self.client.retrieve_bulkdata(uri if "://" in uri else f"{self.server.root}{uri}")
        self.assertEqual(value, self.images[1].PixelData)


class TheCorpus(unittest.TestCase):
    """Real files by way of dicomweb-client."""

    def test_every_readable_series_comes_back_with_its_instances(self):
        folder = corpus()
        if folder is None:
            self.skipTest("no corpus")
        wanted = [row for row in expectations() if row["path"].startswith("series/") and row["outcome"] == "stored"]
        with Server() as server:
            client = DICOMwebClient(server.url)
            expected = {}
            for row in wanted:
                dataset = pydicom.dcmread(folder / row["path"])
                dataset.pop(0x00000000, None)  # zeros after one data set, which pydicom reads but does not write
                client.store_instances([dataset])
                key = dataset.StudyInstanceUID, dataset.SeriesInstanceUID
                expected.setdefault(key, {})[dataset.SOPInstanceUID] = dataset
            for (study, series), datasets in expected.items():
                got = {instance.SOPInstanceUID: instance for instance in client.retrieve_series(study, series)}
                self.assertEqual(set(got), set(datasets))
                for uid, sent in datasets.items():
                    self.assertEqual(got[uid].PixelData, sent.PixelData, uid)


if __name__ == "__main__":
    unittest.main()
