//! The rules of the layout, checked by reading the sources: who may import whom, what lies where, what must not stand in
//! any file. Each rule is also shown a planted violation, so that a rule that has gone blind is seen.

mod imports;
mod repository;
mod source;
mod tree;

use tree::{Tree, Violation};

#[track_caller]
fn holds(name: &str, violations: &[Violation]) {
    let list: String = violations.iter().map(|violation| format!("  {violation}\n")).collect();
    assert!(violations.is_empty(), "{name}:\n{list}");
}

#[test]
fn every_import_rule_holds() {
    let tree = Tree::of_repository();
    for rule in imports::RULES {
        holds(rule.name, &rule.violations(&tree));
    }
}

#[test]
fn manifests_keep_gateway_firmware_and_protocol_apart() {
    holds("dependencies", &imports::manifests(&Tree::of_repository()));
}

#[test]
fn unsafe_code_is_in_the_boards_only() {
    holds("unsafe", &imports::unsafe_code(&Tree::of_repository()));
}

#[test]
fn the_top_level_is_as_designed() {
    holds("top level", &repository::top_level(&Tree::of_repository()));
}

#[test]
fn no_file_is_longer_than_a_reader_takes() {
    holds("length", &repository::length(&Tree::of_repository()));
}

#[test]
fn no_file_names_a_registry_host_or_a_path_of_one_machine() {
    holds("places", &repository::places(&Tree::of_repository()));
}

#[test]
fn every_target_of_the_tests_has_its_file() {
    holds("targets", &repository::targets(&Tree::of_repository()));
}

#[test]
fn every_file_that_the_pages_name_is_there() {
    holds("pages", &repository::named_paths(&Tree::of_repository()));
}
