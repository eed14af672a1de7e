//! Every seed of the fuzz targets, run through what the targets check: what fuzzing once found stays found.

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
mod targets;

/// What checks one input.
type Run = fn(&[u8]);

/// The targets by name.
const TARGETS: &[(&str, Run)] = &[
    ("accept", targets::accept::run),
    ("coerce", targets::coerce::run),
    ("frames", targets::frames::run),
    ("header", targets::header::run),
    ("json_in", targets::json_in::run),
    ("json_out", targets::json_out::run),
    ("media", targets::media::run),
    ("multipart", targets::multipart::run),
    ("query", targets::query::run),
    ("xml_in", targets::xml_in::run),
];

#[test]
fn every_seed_of_every_fuzz_target_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut folders: Vec<_> = fs::read_dir(root.join("seeds"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let known: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(folders, known, "a folder of seeds for each target");
    for (name, run) in TARGETS {
        assert!(root.join("targets").join(format!("{name}.rs")).is_file(), "{name} is no target");
        let mut seeds: Vec<_> =
            fs::read_dir(root.join("seeds").join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        seeds.sort();
        assert!(!seeds.is_empty(), "{name} has no seeds");
        println!("{name}: {} seeds", seeds.len());
        for seed in seeds {
            let data = fs::read(&seed).unwrap();
            assert!(data.len() <= 64 << 10, "{} is not small", seed.display());
            // a panic does not tell which
            println!("  {}", seed.file_name().unwrap().display());
            run(&data);
        }
    }
}
