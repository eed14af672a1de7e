//! `isocenter sample`: its files are what their IODs demand, whatever the size.

use isocenter::cli::sample::{Plan, SampleArgs, run};
use std::path::Path;
use std::process::Command;

#[test]
fn files_have_the_attributes_that_their_iods_demand() {
    let folder = tempfile::tempdir().unwrap();
    let args = SampleArgs { folder: folder.path().join("new/demo"), seed: 3, studies: 11, slices: 3, size: 17 };
    run(&args).unwrap();
    let plan = Plan { seed: 3, studies: 11, slices: 3, size: 17 };
    let mut checked = 0;
    for instance in plan.iter() {
        let path = args.folder.join(&instance.path);
        assert!(std::fs::read(&path).unwrap() == instance.bytes, "{}", path.display());
        checked += usize::from(check(&path));
    }
    assert_eq!(std::fs::read_dir(&args.folder).unwrap().count(), 11);
    println!("{checked} of {} files checked by dciodvfy", plan.instances());
    run(&args).expect("files of the same names are replaced");
}

/// Asks dicom3tools, where they are installed.
fn check(path: &Path) -> bool {
    let Ok(output) = Command::new("dciodvfy").arg(path).output() else { return false };
    let told = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!told.contains("Error") && !told.contains("Warning"), "{}: {told}", path.display());
    true
}
