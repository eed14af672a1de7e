"""Writes one small file for each kind of compressed image, video and document that a client may send as bulk data.

    python generate_media.py FOLDER

The encoders are those of requirements-media.txt; the files in tests/data/media were made so. The pictures are computed, and
each encoder is told to leave times and names out, so that the same versions write the same bytes.
"""

import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import imagecodecs
import imageio_ffmpeg
import numpy
from fpdf import FPDF
from PIL import Image
from pydicom.encoders import RLELosslessEncoder
from pydicom.uid import RLELossless

ROWS, COLUMNS = 24, 32
FRAMES = 6


def grey(bits):
    """A slope with a step in it."""
    rows, columns = numpy.mgrid[0:ROWS, 0:COLUMNS]
    values = (rows * 3 + columns * 5 + (columns > 16) * 40) * (2 ** bits - 1) // (ROWS * 3 + COLUMNS * 5 + 40)
    return values.astype(numpy.uint8 if bits <= 8 else numpy.uint16)


def colour():
    rows, columns = numpy.mgrid[0:ROWS, 0:COLUMNS]
    return numpy.stack([rows * 10, columns * 7, (rows + columns) * 4], axis=-1).astype(numpy.uint8)


def jpegs(folder):
    Image.fromarray(colour()).save(folder / "photo.jpg", quality=80)
    Image.fromarray(colour()).save(folder / "photo_444.jpg", quality=80, subsampling=0)
    Image.fromarray(grey(8)).save(folder / "grey.jpg", quality=80)
    Image.fromarray(colour()).save(folder / "progressive.jpg", quality=80, progressive=True)
    Image.fromarray(colour()).convert("CMYK").save(folder / "cmyk.jpg", quality=80)
    # no colour transform: the encoder says so in an Adobe segment
    plain = imagecodecs.jpeg8_encode(colour(), level=80, colorspace="RGB", outcolorspace="RGB")
    (folder / "rgb.jpg").write_bytes(plain)
    (folder / "grey_12_bits.jpg").write_bytes(imagecodecs.jpeg8_encode(grey(12), level=90, bitspersample=12))
    (folder / "lossless_16_bits.jpg").write_bytes(imagecodecs.jpeg8_encode(grey(16), lossless=True, predictor=1, bitspersample=16))
    (folder / "lossless_other_predictor.jpg").write_bytes(imagecodecs.jpeg8_encode(grey(8), lossless=True, predictor=6))


def jpeg_ls(folder):
    (folder / "grey.jls").write_bytes(imagecodecs.jpegls_encode(grey(12)))
    (folder / "near.jls").write_bytes(imagecodecs.jpegls_encode(grey(8), level=2))
    (folder / "colour.jls").write_bytes(imagecodecs.jpegls_encode(colour()))


def jpeg_2000(folder):
    (folder / "lossless.j2k").write_bytes(imagecodecs.jpeg2k_encode(colour(), codecformat="j2k", reversible=True, level=0))
    (folder / "lossy.j2k").write_bytes(imagecodecs.jpeg2k_encode(colour(), codecformat="j2k", reversible=False, level=35))
    (folder / "grey_16_bits.j2k").write_bytes(imagecodecs.jpeg2k_encode(grey(16), codecformat="j2k", reversible=True, level=0))
    (folder / "lossless.jp2").write_bytes(imagecodecs.jpeg2k_encode(colour(), codecformat="jp2", reversible=True, level=0))
    (folder / "lossless.jhc").write_bytes(imagecodecs.htj2k_encode(colour(), reversible=True))
    (folder / "lossy.jhc").write_bytes(imagecodecs.htj2k_encode(colour(), level=0.05, reversible=False))


def jpeg_xl(folder):
    (folder / "lossless.jxl").write_bytes(imagecodecs.jpegxl_encode(colour(), lossless=True, usecontainer=False))
    (folder / "lossy.jxl").write_bytes(imagecodecs.jpegxl_encode(colour(), distance=1.5, usecontainer=False))
    (folder / "grey_16_bits.jxl").write_bytes(imagecodecs.jpegxl_encode(grey(16), lossless=True, usecontainer=True))
    (folder / "recompressed.jxl").write_bytes(imagecodecs.jpegxl_encode_jpeg((folder / "photo.jpg").read_bytes(), usecontainer=True))


def run_lengths(folder):
    sizes = {"rows": ROWS, "columns": COLUMNS, "number_of_frames": 1, "pixel_representation": 0, "transfer_syntax_uid": RLELossless}
    for name, image, samples, bits in [("grey_16_bits.rle", grey(16), 1, 16), ("colour.rle", colour(), 3, 8)]:
        described = {
            "samples_per_pixel": samples,
            "bits_allocated": bits,
            "bits_stored": bits,
            "photometric_interpretation": "RGB" if samples == 3 else "MONOCHROME2",
            "planar_configuration": 0,
        }
        frame = RLELosslessEncoder.encode(image, encoding_plugin="pydicom", **described, **{k: v for k, v in sizes.items() if k != "transfer_syntax_uid"})
        (folder / name).write_bytes(frame)


def film(path, *options):
    """A moving test picture, as small as the codecs allow."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y"]
    command += ["-f", "lavfi", "-i", "color=c=teal:size=64x48:rate=25,format=yuv420p", "-frames:v", str(FRAMES)]
    command += ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1", *options, str(path)]
    subprocess.run(command, check=True)


def videos(folder):
    h264 = ["-c:v", "libx264", "-profile:v", "high", "-level", "3.1", "-x264-params", "threads=1", "-bsf:v", "filter_units=remove_types=6"]
    film(folder / "h264.mp4", *h264)
    film(folder / "h264_header_first.mp4", *h264, "-movflags", "+faststart")
    film(folder / "h264_fragments.mp4", *h264, "-g", "3", "-movflags", "frag_keyframe+empty_moov+default_base_moof")
    film(folder / "h264_main.mp4", *h264[:3], "main", *h264[4:])
    film(folder / "h264_level_5.mp4", *h264[:5], "5.1", *h264[6:])
    film(folder / "h264_422.mp4", "-pix_fmt", "yuv422p", "-c:v", "libx264", "-x264-params", "threads=1", *h264[-2:])
    h265 = ["-c:v", "libx265", "-x265-params", "log-level=none:info=0:pools=none:frame-threads=1", "-tag:v", "hvc1"]
    film(folder / "h265.mp4", *h265)
    film(folder / "h265_10_bits.mp4", "-pix_fmt", "yuv420p10le", *h265)
    mpeg2 = ["-c:v", "mpeg2video", "-b:v", "100k"]
    film(folder / "mpeg2.m2v", *mpeg2, "-f", "mpeg2video")
    film(folder / "mpeg2.mpg", *mpeg2, "-f", "vob")
    film(folder / "mpeg2.ts", *mpeg2, "-f", "mpegts")
    film(folder / "mpeg1.mpg", "-c:v", "mpeg1video", "-f", "mpeg")


def documents(folder):
    document = FPDF()
    document.set_creation_date(datetime(2020, 1, 1, tzinfo=timezone.utc))
    document.set_producer("")
    document.add_page(format=(100, 50))
    document.set_font("helvetica", size=12)
    document.cell(text="A report")
    document.output(str(folder / "report.pdf"))


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for write in (jpegs, jpeg_ls, jpeg_2000, jpeg_xl, run_lengths, videos, documents):
        write(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
