//! What making and serving metadata costs: a CT header of 256 elements, as ingest and the metadata service see it.

use std::hint::black_box;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use divan::Bencher;
use divan::counter::BytesCount;
use isocenter::dicom::attribute_set::{pick, write_object};
use isocenter::dicom::header::{Header, HeaderLimits, HeaderReader};
use isocenter::dicom::json::{attribute_set, splice_base, write_metadata};
use isocenter::dicom::text::CharacterSet;
use isocenter::dicom::values::fold;

const BASE: &str = "/dicom-web/studies/1.2.826.0.1.3680043.8.498.1/series/1.2.826.0.1.3680043.8.498.2/instances/1.2.826.0.1.3680043.8.498.3/";

fn main() {
    divan::main();
}

fn element(file: &mut Vec<u8>, tag: Tag, vr: VR, value: &[u8]) {
    file.extend_from_slice(&tag.group().to_le_bytes());
    file.extend_from_slice(&tag.element().to_le_bytes());
    file.extend_from_slice(vr.to_string().as_bytes());
    let padding = if value.len().is_multiple_of(2) { &b""[..] } else { b" " };
    let length = value.len() + padding.len();
    if matches!(vr, VR::OW | VR::OB | VR::UN | VR::UT) {
        file.extend_from_slice(&[0, 0]);
        file.extend_from_slice(&u32::try_from(length).unwrap_or_default().to_le_bytes());
    } else {
        file.extend_from_slice(&u16::try_from(length).unwrap_or_default().to_le_bytes());
    }
    file.extend_from_slice(value);
    file.extend_from_slice(padding);
}

/// A CT header with the mix of VRs that such headers have, private ones included, and pixel data.
fn ct() -> Header {
    let mut file = Vec::new();
    element(&mut file, tags::SPECIFIC_CHARACTER_SET, VR::CS, b"ISO_IR 100");
    element(&mut file, tags::IMAGE_TYPE, VR::CS, b"ORIGINAL\\PRIMARY\\AXIAL\\HELIX");
    element(&mut file, tags::SOP_CLASS_UID, VR::UI, b"1.2.840.10008.5.1.4.1.1.2");
    element(&mut file, tags::SOP_INSTANCE_UID, VR::UI, b"1.2.826.0.1.3680043.8.498.3");
    element(&mut file, tags::STUDY_DESCRIPTION, VR::LO, b"Thorax^Standard f\xfcr Erwachsene");
    element(&mut file, Tag(0x0009, 0x0010), VR::LO, b"ACME 1.0");
    for number in 0..120_u16 {
        let tag = Tag(0x0009, 0x1000 + number);
        match number % 6 {
            0 => element(&mut file, tag, VR::DS, b"0.3906250\\0.3906250 "),
            1 => element(&mut file, tag, VR::LO, b"some private text of usual length"),
            2 => element(&mut file, tag, VR::IS, b"1024"),
            3 => element(&mut file, tag, VR::SL, &[1, 2, 3, 4]),
            4 => element(&mut file, tag, VR::FL, &1.5_f32.to_le_bytes()),
            _ => element(&mut file, tag, VR::UN, &[7; 24]),
        }
    }
    element(&mut file, tags::PATIENT_NAME, VR::PN, b"M\xfcller^J\xf6rg");
    element(&mut file, tags::PATIENT_ID, VR::LO, b"12345678");
    element(&mut file, Tag(0x0011, 0x0010), VR::LO, b"ACME 1.0");
    for number in 0..110_u16 {
        let tag = Tag(0x0011, 0x1000 + number);
        match number % 5 {
            0 => element(&mut file, tag, VR::DS, b"-164.30000305175781"),
            1 => element(&mut file, tag, VR::CS, b"HEAD_FIRST"),
            2 => element(&mut file, tag, VR::US, &[0, 2]),
            3 => element(&mut file, tag, VR::TM, b"112233.456000"),
            _ => element(&mut file, tag, VR::UI, b"1.2.826.0.1.3680043.8.498.4711.1"),
        }
    }
    element(&mut file, tags::STUDY_INSTANCE_UID, VR::UI, b"1.2.826.0.1.3680043.8.498.1");
    element(&mut file, tags::SERIES_INSTANCE_UID, VR::UI, b"1.2.826.0.1.3680043.8.498.2");
    element(&mut file, tags::INSTANCE_NUMBER, VR::IS, b"42");
    for number in 0..10_u16 {
        element(
            &mut file,
            Tag(0x0020, 0x9000 + number),
            VR::DS,
            b"1.000000\\0.000000\\0.000000\\0.000000\\1.000000\\0.000000",
        );
    }
    element(&mut file, tags::ROWS, VR::US, &[0, 2]);
    element(&mut file, tags::COLUMNS, VR::US, &[0, 2]);
    element(&mut file, tags::BITS_ALLOCATED, VR::US, &[16, 0]);
    element(&mut file, tags::PIXEL_DATA, VR::OW, &[0; 512]);
    let mut reader = HeaderReader::new(HeaderLimits::default());
    reader.push(&file).expect("the stream is well formed");
    reader.finish_anonymous().expect("the stream is complete")
}

#[divan::bench]
fn metadata_of_a_ct(bencher: Bencher) {
    let header = ct();
    let length = write_metadata(&header).json.len();
    bencher.counter(BytesCount::new(length)).bench_local(|| write_metadata(black_box(&header)));
}

#[divan::bench]
fn series_attributes_of_a_ct(bencher: Bencher) {
    let header = ct();
    bencher.bench_local(|| attribute_set(black_box(&header), |tag| tag.group() == 0x0008 || tag.group() == 0x0020));
}

#[divan::bench]
fn base_spliced_into_metadata(bencher: Bencher) {
    let json = write_metadata(&ct()).json;
    let mut out = Vec::new();
    bencher.counter(BytesCount::of_slice(&json)).bench_local(|| {
        out.clear();
        splice_base(black_box(&json), BASE, "", &mut out);
    });
}

#[divan::bench]
fn three_attributes_picked_from_metadata(bencher: Bencher) {
    let json = write_metadata(&ct()).json;
    let wanted = [tags::STUDY_DESCRIPTION, tags::PATIENT_ID, tags::ROWS];
    bencher.bench_local(|| pick(black_box(&json), &wanted).count());
}

#[divan::bench]
fn answer_merged_from_two_sets(bencher: Bencher) {
    let header = ct();
    let (study, series) =
        (attribute_set(&header, |tag| tag.group() <= 0x0008), attribute_set(&header, |tag| tag.group() >= 0x0020));
    let mut out = Vec::new();
    bencher.bench_local(|| {
        out.clear();
        write_object(&mut out, study.iter().chain(series.iter()));
    });
}

#[divan::bench(args = ["ISO_IR 100", "\\ISO 2022 IR 149", "GB18030"])]
fn name_decoded(bencher: Bencher, terms: &str) {
    let charset = CharacterSet::parse(terms.as_bytes());
    let raw = if terms == "ISO_IR 100" {
        &b"M\xfcller^J\xf6rg"[..]
    } else {
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"
    };
    bencher.bench_local(|| charset.decode(VR::PN, black_box(raw)).len());
}

#[divan::bench(args = ["Mueller^Joerg", "Müller^Jörg"])]
fn name_folded(bencher: Bencher, name: &str) {
    bencher.bench_local(|| fold(black_box(name)));
}
