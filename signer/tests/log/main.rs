//! The log on real SQLite files and on a real PostgreSQL server: what is acknowledged stays, what was touched
//! is noticed, and nothing is granted before it is durable.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::float_arithmetic,
    reason = "a test fails by panicking, and says what it measured"
)]

mod cluster;
mod crash;
mod elsewhere;
mod disk;
mod groups;
mod grants;
mod lifecycle;
mod lost_writes;
mod nonces;
mod points;
mod script;
mod snapshots;
mod snapshot_attacks;
mod snapshot_crash;
mod reread;
mod rollback;
mod standby;
mod support;
mod tampering;
mod witnessed;

/// Each scenario runs on both databases.
macro_rules! on_both {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$module::$name(super::support::Database::sqlite()).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$module::$name(super::support::Database::postgres().await).await;
            })+
        }
    };
}

on_both! {
    lifecycle::what_is_committed_is_there_after_a_restart,
    lifecycle::entries_can_be_read_back,
    lifecycle::a_log_is_begun_once,
    lifecycle::two_signers_cannot_share_a_log,
    lifecycle::a_read_only_database_is_refused,
    lifecycle::a_failed_write_stops_the_log_for_good,
    lifecycle::an_entry_the_state_refuses_stops_the_log,
    lifecycle::a_caller_that_goes_away_leaves_its_entries,
    lifecycle::time_never_runs_backwards,
    lifecycle::a_silent_token_covers_nothing,
    lifecycle::a_log_opens_only_when_all_of_it_is_covered,
    lifecycle::a_crash_before_the_checkpoint_sets_aside,
    lifecycle::a_clock_that_jumped_is_refused,
    lifecycle::a_lying_token_makes_no_checkpoint,
    lifecycle::checkpoints_are_made_while_it_runs,
    lifecycle::a_closed_log_says_so,
    tampering::an_edited_entry_is_noticed,
    tampering::an_undecodable_entry_is_noticed,
    tampering::a_deleted_entry_is_noticed,
    tampering::a_cut_off_end_is_noticed,
    tampering::a_cut_off_end_after_the_checkpoint_is_noticed,
    tampering::an_added_entry_is_noticed,
    tampering::an_edited_checkpoint_is_noticed,
    tampering::an_old_copy_of_the_whole_database_is_noticed,
    tampering::a_lost_database_is_noticed,
    tampering::a_damaged_state_folder_is_noticed,
    tampering::another_token_is_noticed,
    tampering::an_appended_entry_is_set_aside,
    tampering::a_tail_is_not_read,
    tampering::a_log_without_any_checkpoint_is_refused,
    rollback::two_databases_exchanged_are_noticed,
    rollback::a_witness_that_comes_later_stops_a_log_that_was_set_back,
    witnessed::nothing_is_let_out_before_enough_witnesses_saw_it,
    witnessed::cosignatures_are_kept_beside_the_checkpoint,
    witnessed::a_group_is_shown_once,
    witnessed::silent_and_lying_witnesses_are_not_counted,
    witnessed::a_witness_that_was_late_is_asked_from_what_it_saw,
    witnessed::every_size_it_had_can_be_proven,
    groups::many_commits_share_a_write,
    groups::order_is_the_same_in_memory_and_on_disk,
    grants::a_permit_follows_a_durable_spend,
    grants::no_spend_no_permit,
    grants::no_checkpoint_no_permit,
    nonces::a_nonce_used_before_a_restart_is_refused_after_it,
    snapshots::a_start_from_a_snapshot_is_a_start_by_reading,
    snapshots::a_short_log_has_no_snapshot,
    snapshots::one_is_kept_while_it_runs,
    snapshots::one_goes_on_by_itself_from_the_one_before,
    snapshots::what_is_not_its_snapshot_is_not_believed,
    snapshots::a_torn_snapshot_is_the_one_before,
    snapshots::a_row_edited_under_a_snapshot_stops_the_log,
    snapshots::a_false_snapshot_that_the_token_signed_is_refuted_by_the_rows,
    snapshots::one_is_sealed_every_so_many_entries,
    snapshots::a_link_in_its_place_is_not_followed,
    snapshot_crash::killed_at_any_step_of_a_snapshot,
    snapshot_crash::a_standby_starts_from_its_own_snapshot_or_the_shared_one,
    crash::killed_writers_lose_nothing_they_acknowledged,
    standby::a_standby_goes_on_where_a_killed_one_ended,
    points::killed_at_any_call_it_keeps_what_it_said,
    points::an_error_at_any_call_loses_nothing,
}
