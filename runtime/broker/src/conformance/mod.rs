//! What every broker has to do, as rules: one test each, on any broker.
//!
//! ```text
//! impl Fixture for Mine ──> conformance::suite!(Mine)      each rule as a #[tokio::test], for a tenant of its own
//!                      └──> conformance::agree::<Mine>()   random operations; the model is asked too, and has to agree
//! ```
//!
//! A rule knows the broker by its trait alone. Time stands still but for [`Case::pass`], so nothing here waits for the
//! clock on the wall. Rules panic where a broker breaks them, as tests do.

mod agree;
mod case;
mod clock;
mod random;
mod script;

// The topics. Each public function in them is a rule, and is named in the list below.
pub mod accounting;
pub mod attempts;
pub mod breakers;
pub mod cancelling;
pub mod daemons;
pub mod editing;
pub mod effects;
pub mod enqueueing;
pub mod events;
pub mod expiring;
pub mod fairness;
pub mod flows;
pub mod groups;
pub mod holding;
pub mod lanes;
pub mod leasing;
pub mod looking;
pub mod quotas;
pub mod rates;
pub mod renewing;
pub mod schedules;
pub mod settling;
pub mod sweeping;
pub mod trials;
pub mod uniqueness;
pub mod waking;

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;

pub use self::agree::{agree, agree_on_some_seeds, steps};
pub use self::case::Case;
pub use self::clock::ManualClock;
use crate::Broker;
pub use crate::conformance_suite as suite;

/// A broker to be tested.
#[async_trait]
pub trait Fixture: Send + Sync + Sized + 'static {
    /// Starts a broker for a single test. Its time is that of the clock, and stands still between the test's moves of it.
    /// It may share a server with others: no two tests use the same tenant.
    async fn start(clock: Arc<ManualClock>) -> Self;

    /// Number of bytes by which a value of state is longer where it counts against a quota.
    const SEAL: u64 = 0;

    /// Returns the broker. The fixture outlives its use.
    fn broker(&self) -> Arc<dyn Broker>;
}

/// Plays one rule on a new broker.
///
/// # Panics
/// If the broker breaks the rule.
pub async fn play<F: Fixture, R: Future<Output = ()>>(rule: impl FnOnce(Case) -> R) {
    let clock = Arc::new(ManualClock::default());
    let fixture = F::start(Arc::clone(&clock)).await;
    rule(Case::new(fixture.broker(), clock, F::SEAL)).await;
}

/// Makes a `#[tokio::test]` of every rule, for a [`Fixture`].
#[macro_export]
macro_rules! conformance_suite {
    ($fixture:ty) => {
        $crate::conformance_suite! { $fixture:
            enqueueing {
                a_job_without_delay_is_ready_and_holds_what_was_asked_for,
                a_delayed_job_is_scheduled_until_its_time,
                a_part_of_a_millisecond_is_waited_for_in_full,
                a_delay_without_end_is_never_due,
                repeating_an_id_changes_nothing,
                a_held_unique_key_lets_no_second_job_in,
                a_unique_key_is_free_once_its_holder_is_final,
                a_job_that_is_stored_is_told_so_though_its_own_key_is_held,
                a_batch_is_one_step_in_its_order,
                tenants_share_neither_jobs_nor_keys,
                payloads_are_kept_byte_for_byte,
                nothing_enqueued_is_nothing_answered,
                a_payload_over_its_bound_is_refused_and_its_neighbours_are_not,
                no_more_jobs_wait_than_may,
                no_more_bytes_wait_than_may,
            }
            leasing {
                a_lease_hands_over_the_whole_job,
                a_job_stays_pinned_to_its_revision,
                options_stay_with_their_job,
                the_highest_priority_goes_first_and_equals_in_order_of_arrival,
                queues_are_served_in_the_order_asked_and_up_to_their_number,
                a_leased_job_is_handed_to_nobody_else,
                a_lease_counts_no_attempt_and_raises_the_number,
                what_comes_back_goes_behind_those_of_its_priority,
                what_is_due_becomes_ready_in_order_of_time_then_id,
                what_was_promoted_goes_behind_what_was_ready,
                a_queue_that_nobody_asks_for_keeps_its_jobs,
                the_next_look_is_for_whatever_comes_first,
                suspects_are_handed_out_as_many_as_asked_for,
                an_attempt_that_ends_clears_a_suspect,
                an_ask_whose_answer_was_lost_is_answered_again,
                an_ask_that_nobody_heard_is_answered_anew,
                what_is_handed_out_is_bounded_in_bytes,
                host_faults_are_counted_apart,
            }
            breakers {
                what_an_open_breaker_covers_is_not_leased,
                an_open_breaker_lets_probes_through_at_its_time,
                no_more_than_so_many_probes_are_leased_at_once,
                a_breakers_kinds_share_its_probes,
                a_job_is_a_probe_of_all_its_breakers,
                jobs_wait_at_an_open_breaker_as_they_are,
                a_breaker_that_changes_wakes,
                probes_are_bounded_until_a_time,
                breakers_are_listed_as_holds,
                a_breaker_is_written_as_it_was_read,
                a_tenant_has_a_bounded_number_of_breakers,
                a_purge_removes_breakers,
                a_breaker_goes_all_its_way,
            }
            daemons {
                a_daemon_is_listed_as_it_tells,
                a_daemon_that_is_silent_lapses,
                a_daemon_that_leaves_is_gone_at_once,
                the_list_of_daemons_is_as_the_model_has_it,
            }
            holding {
                what_a_hold_covers_is_not_leased_and_all_else_is,
                held_jobs_are_in_nobodys_way,
                a_hold_is_of_one_tenant,
                what_runs_goes_on_while_it_is_held,
                what_comes_to_a_held_queue_waits_there,
                a_hold_ends_at_its_time,
                a_hold_may_end_at_a_time_of_day,
                the_end_of_a_hold_wakes,
                held_jobs_are_no_ready_ones_to_a_sweep,
                a_job_waits_for_all_its_holds,
                holds_are_listed_as_they_were_made,
                holding_again_replaces_the_hold,
                a_tenant_has_a_bounded_number_of_holds,
                asking_for_what_is_held_lifts_nothing,
                a_purge_removes_holds,
            }
            flows {
                a_job_waits_for_the_one_that_it_comes_after,
                edges_that_are_to_be_settled_are_due_at_once,
                a_job_waits_for_all_that_it_comes_after,
                parents_that_end_in_one_call_all_count,
                a_job_ends_with_the_one_that_it_comes_after,
                a_cancelled_job_cancels_those_that_come_after_it,
                a_job_that_loses_too_many_leases_ends_those_that_come_after_it,
                a_failure_can_be_ignored,
                a_failure_can_be_held_until_the_parent_succeeds,
                a_held_job_ends_when_the_failed_one_is_removed,
                a_job_that_is_removed_at_once_has_ended_all_the_same,
                a_blocked_job_can_be_released,
                a_blocked_job_can_be_cancelled_and_not_redriven,
                a_delay_counts_from_when_the_job_is_unblocked,
                a_flow_can_be_stored_again_and_is_there_once,
                a_flow_is_refused_as_a_whole,
                blocked_jobs_count_among_those_that_wait,
                a_blocked_job_holds_its_unique_key,
                a_flow_is_redriven_as_it_was_to_run,
                a_job_that_is_redriven_alone_waits_for_its_parent,
                a_job_that_is_redriven_before_its_edges_are_settled_has_not_ended,
                one_call_never_settles_without_bound,
                a_flow_can_be_looked_up,
                outputs_of_parents_can_be_looked_up,
                a_tenant_with_flows_can_be_purged_in_steps,
                an_end_that_others_wait_for_wakes,
                pages_of_blocked_jobs_fit_together,
            }
            lanes {
                a_kind_without_plugin_gets_a_lane_of_its_own,
                jobs_that_wait_go_to_their_new_lane,
                a_queue_and_its_lanes_go_in_one_order,
                a_lane_hands_out_no_more_than_its_room,
                a_limit_holds_for_the_whole_fleet,
                a_lower_limit_is_waited_for,
                every_end_of_a_lease_leaves_its_place,
                a_lane_is_of_one_queue,
                lanes_can_be_looked_up_and_their_number_tells_of_a_change,
                a_lane_that_is_empty_and_not_asked_for_is_given_up,
                a_lane_that_fills_or_has_room_again_wakes,
            }
            sweeping {
                an_expired_lease_is_taken_back_and_counted,
                a_lease_holds_to_its_last_millisecond,
                expired_leases_come_back_in_order_of_expiry_then_id,
                an_expired_job_can_be_handed_out_once_it_is_taken_back,
                a_job_that_loses_too_many_leases_is_buried_and_named,
                a_job_buried_for_its_leases_is_kept_for_thirty_days,
                a_cancelled_job_whose_lease_runs_out_is_cancelled,
                a_job_that_loses_too_many_leases_is_buried_even_if_it_is_to_be_cancelled,
                one_call_never_promotes_without_bound,
                one_call_never_takes_back_without_bound,
                one_call_never_removes_without_bound,
                final_jobs_go_when_their_keep_time_is_over,
                a_job_kept_for_no_time_goes_at_the_next_sweep,
                removing_is_no_reason_to_look_again,
                no_more_final_jobs_are_kept_than_their_number,
                no_more_final_jobs_of_a_plugin_are_kept_than_its_number,
                one_call_never_removes_more_of_a_plugin_than_a_bound,
                a_sweep_tells_when_the_next_job_is_past_its_time,
                what_a_tenant_has_can_be_purged_in_steps,
            }
            rates {
                no_more_are_leased_within_a_time_than_the_rate_says,
                over_some_time_as_many_are_leased_as_the_rate_says,
                kinds_share_a_rate_by_its_name,
                each_try_takes_a_token,
                a_rate_that_is_changed_holds_at_once,
                a_lane_without_jobs_or_room_takes_no_token,
            }
            renewing {
                a_renewal_holds_from_now_on,
                a_stale_token_renews_nothing,
                an_expired_lease_that_nobody_took_back_can_be_renewed,
                the_last_progress_wins_and_stays,
                log_lines_are_appended_and_the_oldest_go_first,
                a_cancellation_is_seen_at_each_renewal,
                renewals_are_answered_one_by_one_in_order,
                a_settled_lease_renews_no_more,
                a_token_of_another_tenant_renews_nothing,
            }
            settling {
                a_success_keeps_its_output_and_counts_the_attempt,
                stale_token_cannot_settle_a_newer_lease,
                a_lease_that_was_taken_back_settles_nothing,
                an_expired_lease_that_nobody_took_back_can_be_settled,
                an_unknown_job_cannot_be_settled,
                a_token_of_another_tenant_settles_nothing,
                a_lost_reply_can_be_repeated,
                a_retry_counts_an_attempt_and_waits,
                a_retry_without_wait_is_ready_at_once,
                release_costs_no_attempt,
                a_release_without_wait_is_ready_at_once,
                a_burial_counts_an_attempt_and_says_why,
                a_cancelled_run_counts_no_attempt,
                the_last_reason_stays_until_the_next_settlement,
                who_is_to_be_cancelled_gets_no_further_attempt,
                what_ended_before_its_cancellation_was_seen_stands,
                a_wish_to_cancel_does_not_outlive_its_lease,
                usage_adds_up_over_all_runs,
                a_settlement_brings_the_last_progress_and_log_lines,
                each_settlement_of_a_batch_stands_alone,
                of_two_settlements_of_a_job_in_a_batch_the_first_counts,
                the_keep_times_are_those_of_the_settlement,
            }
            attempts {
                each_end_of_an_attempt_is_kept_in_order,
                a_success_at_once_is_told_by_the_job_itself,
                a_lease_that_was_taken_back_is_an_attempt_that_ended,
                what_did_not_run_is_no_attempt,
                no_more_attempts_are_kept_than_that,
                of_a_long_message_the_beginning_is_kept,
                a_redrive_leaves_what_was_before_it,
            }
            expiring {
                a_job_that_has_not_started_in_time_is_cancelled,
                it_is_handed_to_nobody_once_its_time_is_over,
                a_scheduled_job_expires_too,
                a_job_that_has_started_does_not_expire,
                a_job_that_was_given_back_without_a_run_expires,
                a_job_that_expires_frees_its_unique_key_and_its_room,
                the_next_look_is_for_a_job_that_has_to_start,
                one_call_never_cancels_without_bound,
                a_lease_tells_the_time_from_which_a_deadline_counts,
            }
            effects {
                a_success_writes_its_state_and_jobs,
                effects_of_a_failed_attempt_are_not_written,
                increments_of_concurrent_runs_all_count,
                compare_and_set_conflict_changes_nothing,
                a_conflict_can_be_settled_otherwise,
                nothing_there_can_be_expected_too,
                an_expectation_fails_before_a_sum_and_the_first_key_is_named,
                only_a_number_can_be_added_to,
                a_number_past_the_range_is_a_conflict,
                a_missing_value_counts_as_zero,
                a_value_goes_when_its_time_is_over,
                adding_keeps_the_time_to_live_and_setting_replaces_it,
                a_replaced_value_keeps_its_time_to_live,
                what_is_past_its_time_is_nothing_to_a_run,
                a_deleted_value_is_gone,
                values_are_kept_byte_for_byte,
                state_belongs_to_one_plugin_of_one_tenant,
                jobs_of_a_run_are_enqueued_by_the_rules_of_enqueue,
                a_success_hands_on_its_unique_key,
                without_a_run_there_are_no_effects,
                a_repeated_success_writes_nothing_twice,
            }
            accounting {
                every_settled_run_is_counted_by_its_end,
                a_stale_token_spends_nothing,
                a_repeated_settlement_spends_nothing_twice,
                a_run_whose_job_is_cancelled_is_counted_as_that,
                what_did_not_run_spends_nothing,
                each_plugin_has_its_own_account,
                days_are_told_apart,
                what_was_spent_long_ago_is_forgotten,
                great_numbers_are_exact,
                nothing_is_handed_out_while_a_quota_of_fuel_is_used_up,
                a_quota_that_does_not_hold_hands_out_and_tells_what_was_spent,
                fuel_of_an_earlier_minute_counts_no_more,
            }
            cancelling {
                a_waiting_job_is_cancelled_at_once,
                a_leased_job_is_cancelled_by_its_holder,
                what_is_final_cannot_be_cancelled,
                an_unknown_job_is_neither_cancelled_nor_redriven,
                a_redriven_job_starts_anew,
                only_a_dead_letter_can_be_redriven,
                a_redriven_job_takes_its_unique_key_again,
                a_redriven_job_goes_behind_and_is_not_removed,
                what_a_dead_letter_spent_is_not_forgotten,
                a_scheduled_job_can_be_run_now,
                a_final_job_can_be_removed,
                many_are_changed_at_once_and_answered_one_by_one,
                a_job_that_is_not_as_it_was_found_is_left_alone,
            }
            editing {
                a_waiting_job_gets_another_payload,
                what_runs_or_is_final_cannot_be_edited,
                a_ready_job_goes_by_its_new_priority,
                a_scheduled_job_keeps_its_time_with_another_priority,
                a_scheduled_job_can_be_put_off_or_brought_forward,
                a_ready_job_can_be_put_off,
                a_suspect_stays_one,
                an_edit_is_done_as_a_whole_or_not_at_all,
                a_job_in_its_groups_line_moves_by_its_priority,
                an_edit_changes_nothing_about_a_strict_order,
                a_job_that_is_put_off_gives_its_turn_up,
                a_unique_key_stays_with_its_job,
                an_edited_job_is_replaced_and_debounced_as_before,
                a_job_that_waits_for_others_of_its_flow_can_be_edited,
                a_job_that_is_put_off_may_start_later_by_as_much,
                a_job_that_is_brought_forward_wakes,
                a_job_of_another_tenant_is_edited_by_nobody_else,
            }
            quotas {
                a_success_that_would_overfill_the_state_changes_nothing,
                keys_are_counted_too,
                what_is_replaced_makes_room,
                what_is_over_its_quota_can_shrink,
                what_is_over_its_quota_does_not_grow_from_what_is_gone,
                a_value_whose_time_is_over_gives_its_room_back,
                a_new_time_to_live_replaces_the_old_one_in_the_sizes,
                all_values_whose_time_is_over_make_room,
                each_plugin_of_each_tenant_has_a_quota_of_its_own,
                settlements_of_a_batch_share_what_room_there_is,
                a_conflict_comes_before_a_full_state,
            }
            fairness {
                a_group_with_many_jobs_delays_no_other_ones_first,
                groups_go_by_their_weights,
                jobs_without_a_group_are_one_group,
                jobs_of_a_group_keep_their_order,
                each_priority_is_shared_by_itself,
                what_gets_ready_later_takes_the_next_place_of_its_group,
                a_queue_in_which_nothing_is_ready_begins_anew,
                other_queues_and_tenants_share_by_themselves,
                a_queue_that_becomes_fair_shares_what_waits,
                a_queue_that_isnt_fair_any_more_goes_as_it_came,
                a_queue_may_get_the_one_rule_in_place_of_the_other,
                lanes_of_a_fair_queue_share_one_order,
                jobs_with_the_same_place_are_listed_each_once,
                a_fair_queue_goes_on_for_long,
            }
            groups {
                no_more_of_a_group_run_at_once_than_its_queue_says,
                a_queue_without_a_rule_holds_no_group_back,
                groups_of_other_queues_and_tenants_are_others,
                keys_of_groups_are_told_apart,
                those_in_line_go_by_priority_and_then_as_they_came,
                a_strict_group_goes_one_by_one_in_the_order_in_which_it_came,
                a_job_of_a_strict_group_keeps_its_turn_until_it_is_final,
                a_job_that_waits_for_another_try_gives_its_turn_up,
                a_job_that_comes_back_at_once_keeps_its_turn,
                a_delayed_job_gets_in_line_when_it_is_due,
                whoever_goes_lets_the_next_one_in,
                a_dead_job_holds_its_strict_group,
                a_job_that_loses_too_many_leases_holds_its_group_as_well,
                a_group_goes_on_when_its_dead_job_is_no_longer_kept,
                a_group_that_skips_goes_on_after_a_dead_job,
                jobs_of_a_run_get_in_line,
                a_new_rule_holds_for_what_is_there,
                a_changed_rule_shows_by_and_by,
                a_batch_of_a_group_is_let_in_as_its_jobs_would_be,
                blocked_jobs_wait_like_others,
                groups_are_purged,
                a_group_has_its_rest_cancelled_behind_a_dead_job,
                nobody_is_cancelled_behind_a_job_that_is_redriven_in_time,
                a_long_rest_is_cancelled_by_several_sweeps,
                a_long_line_keeps_nobody_else_waiting,
                a_groups_own_limit_stands_in_place_of_its_queues,
                a_groups_limit_can_be_switched_off_and_on,
                a_groups_limit_ends_by_itself,
                a_groups_limit_counts_as_soon_as_its_queue_limits_groups,
                a_tenant_has_a_bounded_number_of_limits_of_groups,
            }
            looking {
                a_job_is_told_what_it_waits_for,
                a_job_in_line_is_told_who_holds_its_group,
                a_job_is_told_which_rates_are_spent,
                suspects_are_ahead_of_all_others,
                those_ahead_are_counted_up_to_a_bound,
                waiting_jobs_are_listed_in_the_order_in_which_they_go,
                final_jobs_are_listed_latest_first,
                a_page_holds_what_was_asked_for,
                the_longest_names_are_listed_with_and_without_payloads,
                pages_of_every_state_fit_together,
                a_list_can_be_filtered,
                a_list_can_be_filtered_by_group_and_labels,
                a_list_can_be_filtered_by_the_text_of_a_message,
                a_list_can_be_filtered_by_when_jobs_last_ran_and_ended,
                a_list_comes_without_payloads_unless_asked,
                a_page_is_bounded_in_bytes,
                a_page_is_never_larger_than_the_limit,
                counts_are_exact,
                each_queue_has_its_numbers,
                the_oldest_ready_job_is_told_of_all_priorities,
                pages_of_queues_fit_together,
                nothing_is_known_of_an_unknown_job,
                tenants_see_their_own_jobs_alone,
                a_tenant_is_known_to_the_store_until_it_is_purged,
                a_fit_store_passes_its_check,
            }
            events {
                each_change_of_a_job_is_one_event,
                each_end_of_a_job_is_told,
                events_are_in_the_order_of_the_changes,
                nothing_is_recorded_that_nobody_wants,
                events_are_recorded_until_nobody_has_asked_for_them_in_a_while,
                a_reader_goes_on_where_it_was,
                no_more_events_are_kept_than_that,
                events_go_when_they_are_old,
                a_call_that_is_repeated_tells_nothing_twice,
                what_is_refused_is_no_event,
                a_job_of_a_flow_is_told_of_when_it_is_unblocked,
                a_job_of_a_group_is_told_of_when_it_gets_its_turn,
                each_tenant_has_events_of_its_own,
                a_purge_removes_events,
                recorded_events_wake,
            }
            trials {
                what_all_daemons_count_adds_up,
                the_first_decision_of_a_trial_holds_for_all,
                each_trial_is_by_itself,
                whoever_saw_the_end_of_a_trial_begins_another,
                a_trial_is_forgotten_once_nobody_has_reported_for_long,
                trials_are_purged,
                no_more_daemons_are_counted_in_a_trial_than_that,
            }
            schedules {
                a_record_is_stored_and_found_as_it_is,
                only_who_has_read_the_latest_version_writes,
                record_and_jobs_are_one_step,
                a_job_that_is_there_already_stays_as_it_is,
                a_sweep_tells_when_the_next_schedule_is_due,
                a_schedule_can_be_removed,
                schedules_are_listed_by_name_in_pages,
                a_tenant_has_no_more_schedules_than_that,
                schedules_are_purged,
                a_schedule_that_is_due_earlier_wakes,
            }
            uniqueness {
                a_key_that_is_held_until_the_start_is_free_once_its_job_is_leased,
                a_key_that_is_held_for_a_time_is_free_when_that_is_over,
                a_key_may_have_an_end_though_its_job_goes_on,
                a_job_that_waits_gets_the_payload_of_one_that_replaces_it,
                a_job_that_runs_is_not_replaced,
                a_job_that_may_not_be_replaced_keeps_its_payload,
                a_payload_that_replaces_another_has_the_same_bounds,
                events_in_a_row_make_one_job_that_runs_after_the_last_of_them,
                events_in_one_batch_make_one_job,
                an_event_puts_off_nothing_that_is_due,
                an_event_after_a_cancelled_job_makes_another,
                a_leading_event_runs_at_once_and_those_that_follow_do_not,
                events_of_runs_are_debounced_as_well,
                a_redriven_job_holds_its_key_again_if_it_did_to_its_end,
                a_job_that_is_put_off_has_as_long_to_start_as_before,
                a_job_in_its_groups_line_gets_the_payload_and_keeps_its_place,
                jobs_of_flows_neither_replace_nor_are_replaced,
            }
            waking {
                the_first_wake_is_for_all,
                a_job_in_an_empty_queue_wakes,
                a_job_that_comes_back_wakes,
                a_redriven_job_wakes,
                a_job_of_a_run_wakes,
                an_earlier_time_wakes,
                what_was_promoted_and_not_handed_out_wakes,
                every_listener_is_woken,
                whoever_is_named_was_waiting,
                a_burst_brings_in_all_that_it_takes,
                who_waits_for_another_queue_is_not_named,
                who_waits_no_more_is_not_named,
                each_tenant_is_woken_for,
                a_leased_job_that_is_to_be_cancelled_wakes,
            }
        }
    };
    ($fixture:ty: $($topic:ident { $($rule:ident,)* })*) => {
        $(
            mod $topic {
                use super::*;
                $(
                    #[tokio::test]
                    async fn $rule() {
                        $crate::conformance::play::<$fixture, _>($crate::conformance::$topic::$rule).await;
                    }
                )*
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_rule_is_in_the_suite() {
        let topics = [
            include_str!("accounting.rs"),
            include_str!("attempts.rs"),
            include_str!("breakers.rs"),
            include_str!("cancelling.rs"),
            include_str!("editing.rs"),
            include_str!("effects.rs"),
            include_str!("enqueueing.rs"),
            include_str!("events.rs"),
            include_str!("expiring.rs"),
            include_str!("flows.rs"),
            include_str!("holding.rs"),
            include_str!("fairness.rs"),
            include_str!("groups.rs"),
            include_str!("lanes.rs"),
            include_str!("leasing.rs"),
            include_str!("looking.rs"),
            include_str!("quotas.rs"),
            include_str!("rates.rs"),
            include_str!("renewing.rs"),
            include_str!("schedules.rs"),
            include_str!("settling.rs"),
            include_str!("sweeping.rs"),
            include_str!("trials.rs"),
            include_str!("uniqueness.rs"),
            include_str!("waking.rs"),
        ];
        let list = include_str!("mod.rs");
        let rules =
            topics.into_iter().flat_map(str::lines).filter_map(|line| line.strip_prefix("pub async fn "));
        for rule in rules {
            let name = rule.split('(').next().expect("a function has a name");
            assert!(list.contains(&format!("    {name},")), "`{name}` is not in the suite");
        }
    }
}
