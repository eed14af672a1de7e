//! `openapi.yaml` describes exactly the routes that the server has.

use std::collections::BTreeSet;

use isocenter::serve::SURFACES;

#[test]
fn the_description_has_the_routes_of_the_tables_and_no_others() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.yaml")).unwrap();
    let tables: BTreeSet<_> = SURFACES
        .iter()
        .flat_map(|(root, routes)| routes.iter().map(move |route| (root, route)))
        .map(|(root, route)| {
            // A parameter may carry what it matches: `{bulkdata:.*}` is `{bulkdata}` to a client.
            let pattern = route.pattern.replace(":.*}", "}");
            (format!("{root}{pattern}"), route.method.as_str().to_ascii_lowercase())
        })
        .collect();
    let described = described(&text);
    assert!(tables.len() > 15, "the tables hold the whole surface");
    assert_eq!(described, tables);
}

/// Path and method of each operation, by the indentation of the file.
fn described(text: &str) -> BTreeSet<(String, String)> {
    let mut path = None;
    let mut operations = BTreeSet::new();
    let paths = text.lines().skip_while(|line| *line != "paths:").skip(1).take_while(|line| line.starts_with(' '));
    for line in paths {
        if let Some(found) = line.strip_prefix("  /").and_then(|rest| rest.strip_suffix(':')) {
            path = Some(format!("/{found}"));
        }
        let method = line.strip_prefix("    ").and_then(|rest| rest.strip_suffix(':'));
        if let Some(method @ ("get" | "post" | "put" | "delete" | "options")) = method {
            operations.insert((path.clone().unwrap(), method.to_owned()));
        }
    }
    operations
}
