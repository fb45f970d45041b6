//! A bounded run of each target: its seeds, and the same mutations of them every time.

use sandhog_fuzz::{component, config, control, host_calls};

#[test]
fn every_configuration_is_right_or_has_all_that_is_wrong_in_its_place() {
    config::TARGET.run_bounded(6000);
}

#[test]
fn every_component_is_loaded_or_refused_with_a_reason() {
    component::TARGET.run_bounded(2000);
}

#[test]
fn every_sequence_of_host_calls_comes_to_a_named_end_within_the_limits() {
    host_calls::TARGET.run_bounded(6000);
}

#[test]
fn whatever_comes_to_the_socket_is_answered_by_a_problem_or_not_at_all() {
    control::TARGET.run_bounded(20_000);
}
