"""What pydicom describes in DICOM JSON, or a few lines in XML, becomes a file that pydicom reads and dciodvfy finds nothing wrong with."""

import io
import json
import shutil
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

import numpy
import pydicom
import requests
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from server import Server
from test_dicomweb_client import image, pixels

MEDIA = Path(__file__).parent.parent / "data/media"
STUDY, SERIES = "2.25.2001", "2.25.2001.1"
JSON, XML = "application/dicom+json", "application/dicom+xml"

# High-Throughput JPEG 2000 and JPEG XL, which dciodvfy takes for native
UNKNOWN = ("1.2.840.10008.1.2.4.20", "1.2.840.10008.1.2.4.11")

# file, media type, where it belongs, SOP class where the client names one, transfer syntax of the result
TABLE = [
    ("photo.jpg", "image/jpeg", "7FE00010", None, "1.2.840.10008.1.2.4.50"),
    ("grey.jpg", "image/jpeg", "7FE00010", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.1.2.4.50"),
    ("photo_444.jpg", "image/jpeg", "7FE00010", "1.2.840.10008.5.1.4.1.1.77.1.1", "1.2.840.10008.1.2.4.50"),
    ("colour.jls", "image/jls", "7FE00010", None, "1.2.840.10008.1.2.4.80"),
    ("lossless.jp2", "image/jp2", "7FE00010", None, "1.2.840.10008.1.2.4.90"),
    ("lossy.j2k", "image/jp2", "7FE00010", None, "1.2.840.10008.1.2.4.91"),
    ("lossless.jhc", "image/jphc", "7FE00010", None, None),
    ("lossless.jxl", "image/jxl", "7FE00010", None, "1.2.840.10008.1.2.4.110"),
    ("h264.mp4", "video/mp4", "7FE00010", None, None),
    ("mpeg2.mpg", "video/mpeg", "7FE00010", None, None),
    ("report.pdf", "application/pdf", "00420011", None, ExplicitVRLittleEndian),
]


def multipart(form, parts):
    """The content type and body of a request; parts are (headers, bytes)."""
    body = b"".join(b"--b\r\n" + "\r\n".join(f"{k}: {v}" for k, v in head.items()).encode() + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
    return f'multipart/related; type="{form}"; boundary=b', body + b"--b--\r\n"


def native_model(dataset):
    """The Native DICOM Model of DICOM JSON, without what the tests do not need."""
    root = xml.Element("NativeDicomModel", xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM")
    attributes(root, dataset)
    return xml.tostring(root, encoding="utf-8")


def attributes(parent, dataset):
    for tag, attribute in dataset.items():
        element = xml.SubElement(parent, "DicomAttribute", tag=tag, vr=attribute["vr"])
        if "BulkDataURI" in attribute:
            xml.SubElement(element, "BulkData", uri=attribute["BulkDataURI"])
        for number, value in enumerate(attribute.get("Value", []), 1):
            if attribute["vr"] == "SQ":
                attributes(xml.SubElement(element, "Item", number=str(number)), value)
            elif attribute["vr"] == "PN":
                name = xml.SubElement(element, "PersonName", number=str(number))
                for group, text in value.items():
                    group = xml.SubElement(name, group)
                    parts = ["FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix"]
                    for part, component in zip(parts, text.split("^")):
                        xml.SubElement(group, part).text = component
            elif value is not None:
                xml.SubElement(element, "Value", number=str(number)).text = str(value)


def known(number, tag, sop_class):
    """What a client knows of a photograph, a video or a report."""
    dataset = {
        "00080018": {"vr": "UI", "Value": [f"{SERIES}.{number}"]},
        "00080020": {"vr": "DA", "Value": ["20240229"]},
        "00080030": {"vr": "TM", "Value": ["101112"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
        "00100020": {"vr": "LO", "Value": ["P-1"]},
        "0020000D": {"vr": "UI", "Value": [STUDY]},
        "0020000E": {"vr": "UI", "Value": [SERIES]},
        tag: {"vr": "OB", "BulkDataURI": "bulk/1"},
    }
    if sop_class:
        dataset["00080016"] = {"vr": "UI", "Value": [sop_class]}
    return dataset


def syntax_of(dataset):
    return str(dataset.file_meta.TransferSyntaxUID)


def errors(content):
    """The errors that dciodvfy finds in a file."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(content)
        file.flush()
        found = subprocess.run(["dciodvfy", file.name], capture_output=True, text=True, check=False)
    return [line for line in (found.stdout + found.stderr).splitlines() if line.startswith("Error")]


class StoredAsMetadata(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server())

    def store(self, form, parts):
        content_type, body = multipart(form, parts)
        headers = {"Content-Type": content_type, "Accept": JSON}
        return requests.post(f"{self.server.url}/studies", body, headers=headers, timeout=60)

    def file(self, answer):
        self.assertEqual(answer.status_code, 200, answer.text)
        url = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
        found = requests.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"}, timeout=60)
        self.assertEqual(found.status_code, 200, found.text[:500])
        return found.content

    def test_what_pydicom_describes_it_reads_again(self):
        for number, form in enumerate([JSON, XML], 1):
            sent = image(number, frames=3)
            bulk = []
            described = sent.to_json_dict(10, lambda element: bulk.append(element.value) or "bulk/1")
            metadata = json.dumps([described]).encode() if form == JSON else native_model(described)
            parts = [({"Content-Type": form}, metadata), ({"Content-Type": "application/octet-stream", "Content-Location": "bulk/1"}, bulk[0])]
            content = self.file(self.store(form, parts))
            read = pydicom.dcmread(io.BytesIO(content))
            self.assertEqual(read.file_meta.TransferSyntaxUID, ExplicitVRLittleEndian)
            self.assertEqual(read.to_json_dict(), sent.to_json_dict())
            self.assertTrue(numpy.array_equal(read.pixel_array, pixels(number, 3)))

    def test_photographs_videos_and_documents_are_valid_instances(self):
        checked = []
        for number, (name, media_type, tag, sop_class, syntax) in enumerate(TABLE, 1):
            with self.subTest(name):
                content = (MEDIA / name).read_bytes()
                parts = [
                    ({"Content-Type": JSON}, json.dumps([known(number, tag, sop_class)]).encode()),
                    ({"Content-Type": media_type, "Content-Location": "bulk/1"}, content),
                ]
                stored = self.file(self.store(JSON, parts))
                read = pydicom.dcmread(io.BytesIO(stored))
                if syntax:
                    self.assertEqual(syntax_of(read), syntax)
                if tag == "00420011":
                    self.assertEqual(read.EncapsulatedDocument[: read.EncapsulatedDocumentLength], content)
                elif syntax == JPEGBaseline8Bit:
                    self.assertEqual(read.pixel_array.shape[:2], (read.Rows, read.Columns))
                if shutil.which("dciodvfy") and not syntax_of(read).startswith(UNKNOWN):
                    self.assertEqual(errors(stored), [])
                    checked.append(name)
        print(f"{len(checked)} of {len(TABLE)} checked by dciodvfy")


if __name__ == "__main__":
    unittest.main()
