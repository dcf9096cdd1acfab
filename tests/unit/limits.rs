//! The limits that READMEs list: each row has the numbers of the constants in the sources, and tests that reach the limit.
//!
//! A row that is changed, added or removed, a constant that is, and a test that is renamed are all seen here.

use crate::support::documents::{Readme, root};

/// A row of a table.
struct Limit {
    /// How it begins.
    row: &'static str,
    /// The files and names of the constants whose values are in it, in the order in which they are. `field.1` is the second
    /// part of a field.
    constants: &'static [(&'static str, &'static str)],
    /// What has digits in it, and is no limit of a constant.
    others: &'static [&'static str],
    /// The tests that reach it: what is at the limit passes, and what is beyond it is answered as the row says.
    tests: &'static [&'static str],
}

const AFTER_CONNECT: &str = "src/sidecar/egress/after_connect.rs";
const CA: &str = "src/sidecar/egress/ca.rs";
const CAPACITY: &str = "src/sidecar/egress/capacity.rs";
const COALESCE: &str = "src/audit/coalesce.rs";
const DRAIN: &str = "src/sidecar/egress/drain.rs";
const OUTSIDE: &str = "src/sidecar/dialer/outside.rs";
const QUOTA: &str = "src/audit/quota.rs";
const REGISTRIES: &str = "src/sidecar/egress/registries.rs";
const REQUEST: &str = "src/sidecar/egress/request.rs";
const RESOLVER: &str = "src/sidecar/dialer/resolver.rs";
const RESPONSES: &str = "src/sidecar/egress/responses.rs";
const SERVE: &str = "src/sidecar/egress/serve.rs";
const STRICT: &str = "src/sidecar/egress/strict.rs";

/// `src/policy/README.md`.
const POLICY: &[Limit] = &[
    Limit {
        row: "1024 connections from the agent",
        constants: &[(SERVE, "MAX_CONNECTIONS")],
        others: &[],
        tests: &["promise_15_connections_beyond_the_limit_wait_for_another_to_end"],
    },
    Limit {
        row: "256 connections from each sidecar",
        constants: &[(SERVE, "SIDECAR_CONNECTIONS")],
        others: &[],
        tests: &["promise_15_connections_beyond_the_limit_wait_for_another_to_end"],
    },
    Limit {
        row: "256 connections to services of this host",
        constants: &[("src/sidecar/host_service/limits.rs", "CONCURRENT"), (OUTSIDE, "DIAL")],
        others: &["502"],
        tests: &[
            "connections_beyond_the_limit_wait_for_another_to_end",
            "a_service_of_this_host_has_so_long_to_answer",
        ],
    },
    Limit {
        row: "8 sidecars that go out",
        constants: &[("src/layout.rs", "MAX"), ("src/primitive/sidecar/service.rs", "MAX_SERVICES")],
        others: &[],
        tests: &["so_many_sidecars_go_out_through_one_egress_and_serve_the_agent"],
    },
    Limit {
        row: "3 s for such a sidecar",
        constants: &[("src/session/unwind.rs", "GRACE")],
        others: &[],
        tests: &["a_sidecar_that_goes_out_has_so_long_to_finish"],
    },
    Limit {
        row: "64 KiB of request head",
        constants: &[(STRICT, "MAX_HEAD"), (STRICT, "MAX_HEADERS"), ("src/net/path.rs", "MAX_PATH"), (REQUEST, "HEAD")],
        others: &["400", "HTTP/2", "431"],
        tests: &[
            "promise_15_a_head_of_a_request_has_bounds",
            "promise_15_a_head_has_bounds_of_its_size_and_its_headers",
            "promise_15_a_head_over_http_2_has_bounds",
            "promise_15_a_head_has_so_long_to_arrive",
        ],
    },
    Limit {
        row: "512 headers of a response",
        constants: &[(STRICT, "MAX_HEADERS"), ("src/sidecar/egress/snapshot.rs", "MAX_HEADER_LIST")],
        others: &["HTTP/1.1", "HTTP/2"],
        tests: &["promise_15_the_headers_of_a_response_have_bounds"],
    },
    Limit {
        row: "15 s for a TLS handshake",
        constants: &[(AFTER_CONNECT, "HANDSHAKE"), (AFTER_CONNECT, "MAX_HELLO")],
        others: &[],
        tests: &["promise_15_a_handshake_has_so_long_to_arrive", "promise_15_a_first_message_has_a_bound"],
    },
    Limit {
        row: "24 h of a host certificate",
        constants: &[(CA, "VALID"), (CA, "AUTHORITY_VALID")],
        // The half of it.
        others: &["12 h"],
        tests: &["a_certificate_is_valid_for_so_long_and_renewed_before"],
    },
    Limit {
        row: "128 concurrent requests",
        constants: &[(AFTER_CONNECT, "MAX_STREAMS")],
        others: &["HTTP/2"],
        tests: &["promise_15_a_head_over_http_2_has_bounds"],
    },
    Limit {
        row: "8 MiB of encoded body",
        constants: &[("src/sidecar/egress/buffered.rs", "MAX_WHOLE"), ("src/scan/decode.rs", "MAX_DECODED")],
        others: &[],
        tests: &["promise_15_a_body_with_an_encoding_has_a_bound", "promise_15_a_body_becomes_so_large_and_no_larger"],
    },
    Limit {
        row: "16 MiB plus 8 × its size",
        constants: &[("src/scan/budget.rs", "BASE"), ("src/scan/budget.rs", "PER_BYTE")],
        others: &[],
        tests: &[
            "promise_15_a_budget_is_a_base_and_so_much_for_each_byte",
            "promise_15_a_flood_neither_ends_egress_nor_keeps_it_from_answering",
        ],
    },
    Limit {
        row: "16384 places that are masked",
        constants: &[("src/scan/mask.rs", "MAX_PLACES"), ("src/sidecar/egress/inspect.rs", "MAX_MASKED")],
        others: &[],
        tests: &[
            "promise_15_so_many_places_are_masked_and_no_more",
            "promise_15_a_text_is_masked_so_often_and_not_once_more",
        ],
    },
    Limit {
        row: "256 requests in progress",
        constants: &[(CAPACITY, "REQUESTS"), (CAPACITY, "BUFFERED_KIB"), (CAPACITY, "PATIENCE")],
        others: &[],
        tests: &[
            "promise_15_so_many_requests_are_in_progress_and_further_ones_wait",
            "promise_15_buffers_have_so_much_memory_and_further_ones_wait",
        ],
    },
    Limit {
        row: "32 responses of one destination",
        constants: &[(RESPONSES, "OF_ONE"), (RESPONSES, "OF_ALL"), (CAPACITY, "unread")],
        others: &[],
        tests: &[
            "promise_15_so_many_responses_of_one_destination_stay_unread",
            "promise_15_so_many_responses_in_total_stay_unread",
        ],
    },
    Limit {
        row: "60 s without more",
        constants: &[(CAPACITY, "stall"), (CAPACITY, "whole")],
        others: &[],
        tests: &["promise_15_a_body_that_does_not_go_on_ends_and_holds_up_no_other"],
    },
    Limit {
        row: "100 interim responses",
        constants: &[("src/sidecar/egress/interim.rs", "MAX_INTERIM")],
        others: &["1xx"],
        tests: &["promise_15_so_many_interim_responses_are_taken"],
    },
    Limit {
        row: "an unknown content or transfer encoding",
        constants: &[],
        others: &["S3", "400"],
        tests: &[
            "promise_06_what_cannot_be_decoded_is_an_error",
            "promise_09_what_stands_beside_is_given_too_or_refused",
            "promise_06_a_boundary_is_there_once_and_well_formed",
            "promise_06_what_is_no_grpc_is_refused",
        ],
    },
    Limit {
        row: "a path that servers read in different ways",
        constants: &[],
        others: &["%2F"],
        tests: &["promise_04_what_servers_read_in_different_ways_is_named"],
    },
    Limit {
        row: "a body with an upgrade",
        constants: &[],
        others: &["h2c", "400"],
        tests: &[
            "promise_06_what_is_read_in_different_ways_does_not_come_in",
            "promise_04_no_shape_of_request_finds_another_way",
        ],
    },
    Limit {
        row: "16 MiB of a WebSocket or gRPC message",
        constants: &[("src/sidecar/egress/websocket.rs", "MAX_MESSAGE")],
        others: &[],
        tests: &["promise_15_a_message_of_a_web_socket_has_a_bound", "promise_15_a_message_has_a_bound"],
    },
    Limit {
        row: "6 nested encodings",
        constants: &[("src/scan/inner.rs", "MAX_DEPTH"), ("src/scan/inner.rs", "MAX_ESCAPES")],
        others: &[],
        tests: &["promise_15_so_many_layers_are_looked_through"],
    },
    Limit {
        row: "4096 parts",
        constants: &[("src/scan/multipart.rs", "MAX_PARTS")],
        others: &[],
        tests: &["promise_15_a_body_has_so_many_parts"],
    },
    Limit {
        row: "16 KiB of a body over 8 MiB",
        constants: &[
            ("src/scan/windows.rs", "HELD"),
            ("src/sidecar/egress/buffered.rs", "MAX_WHOLE"),
            ("src/scan/windows.rs", "OVERLAP"),
        ],
        others: &[],
        tests: &["so_much_is_held_back_and_inspected_again", "promise_09_of_what_windows_end_within_nothing_has_left"],
    },
    Limit {
        row: "32 names in JSON messages",
        constants: &[("src/scan/joined_values.rs", "MAX_NAMES")],
        others: &[],
        tests: &["what_is_kept_is_bounded"],
    },
    Limit {
        row: "256 MiB, 10 minutes, or 30 s",
        constants: &[(DRAIN, "MAX_BYTES"), (DRAIN, "LONGEST"), (DRAIN, "PATIENCE")],
        others: &["HTTP/2"],
        tests: &["promise_15_so_much_of_the_rest_is_read_and_no_more", "promise_15_the_rest_is_waited_for_so_long"],
    },
    Limit {
        row: "5 s to resolve a name",
        constants: &[(RESOLVER, "PATIENCE"), (RESOLVER, "MAX_ADDRESSES"), (OUTSIDE, "DIAL")],
        others: &["502"],
        tests: &[
            "promise_15_a_name_has_so_long_to_be_resolved",
            "so_many_addresses_of_a_name_are_used",
            "promise_15_each_address_has_so_long_to_answer",
        ],
    },
    Limit {
        row: "32 destinations of plain TCP",
        constants: &[("src/policy/spec.rs", "MAX_TCP")],
        others: &[],
        tests: &["promise_15_so_many_destinations_of_plain_tcp_are_named"],
    },
    Limit {
        row: "200 secrets of at least 8 characters",
        constants: &[("src/scan/exact.rs", "MAX_SECRETS"), ("src/scan/exact.rs", "MIN_SECRET")],
        others: &[],
        tests: &["so_many_secrets_of_such_a_length_are_searched_for"],
    },
    Limit {
        row: "64 credentials with 64 places each",
        constants: &[
            ("src/credential/check.rs", "MAX_CREDENTIALS"),
            ("src/credential/check.rs", "MAX_PLACES"),
            ("src/credential/value.rs", "MIN_VALUE"),
            ("src/credential/value.rs", "MAX_VALUE"),
        ],
        others: &[],
        tests: &["promise_15_credentials_places_and_values_have_bounds"],
    },
    Limit {
        row: "a response of a host that has a credential",
        constants: &[],
        others: &[],
        tests: &["promise_08_no_server_gives_a_value_back"],
    },
    Limit {
        row: "4096 cookies",
        constants: &[("src/sidecar/egress/cookies.rs", "MAX_COOKIES")],
        others: &[],
        tests: &["only_what_a_site_handed_out_goes_back_to_it"],
    },
    Limit {
        row: "4096 tokens of 64 token services",
        constants: &[(REGISTRIES, "MAX_TOKENS"), (REGISTRIES, "MAX_SERVICES"), (REGISTRIES, "MAX_ANSWER")],
        others: &[],
        tests: &[
            "a_token_belongs_to_its_credential_and_the_oldest_are_forgotten",
            "services_and_their_answers_are_bounded",
        ],
    },
    Limit {
        row: "one report for each credential in a minute",
        constants: &[("src/sidecar/egress/needs.rs", "AGAIN")],
        others: &[],
        tests: &["a_need_is_reported_once_a_minute_and_all_wait_for_its_answer"],
    },
    Limit {
        row: "32 MiB of audit log",
        constants: &[
            (QUOTA, "ALL"),
            (QUOTA, "ALLOWED"),
            (QUOTA, "OTHERS"),
            (QUOTA, "LEVELS"),
            (QUOTA, "SIDECARS"),
            (QUOTA, "CLOSING"),
            ("src/audit/backlog.rs", "MOST"),
        ],
        others: &[],
        tests: &[
            "each_kind_of_event_has_room_of_its_own",
            "what_is_rare_has_room_in_a_file_that_is_flooded",
            "so_many_destinations_are_kept_and_others_are_counted",
        ],
    },
    Limit {
        row: "200 audit logs",
        constants: &[("src/audit/format.rs", "MAX_FILES")],
        others: &[],
        tests: &["ended_launches_have_so_many_files_and_no_others_go"],
    },
    Limit {
        row: "256 new destinations at once",
        constants: &[(COALESCE, "fresh.0"), (COALESCE, "fresh.1"), (COALESCE, "repeated.0"), (COALESCE, "of_zone")],
        others: &["2, 4, 8 … 128"],
        tests: &[
            "so_many_new_destinations_are_named_and_then_one_a_second",
            "repeated_destinations_have_room_by_how_often_they_are_requested",
        ],
    },
    Limit {
        row: "8 events of one destination",
        constants: &[(COALESCE, "variants"), ("src/sidecar/audit.rs", "MAX_REASON")],
        others: &[],
        tests: &["so_many_new_destinations_are_named_and_then_one_a_second", "a_reason_is_cut_off"],
    },
    Limit {
        row: "6 s for a sidecar to answer a check",
        constants: &[("src/primitive/sidecar/liveness.rs", "DEADLINE"), ("src/primitive/sidecar/liveness.rs", "EVERY")],
        others: &[],
        tests: &["promise_20_an_egress_that_hangs_pauses_the_agent_until_a_proof_is_green"],
    },
];

/// `src/manifest/README.md`, the keys of `limits`.
const REQUESTS: &[Limit] = &[
    Limit {
        row: "`total`",
        constants: &[],
        others: &[],
        tests: &["a_budget_is_refused_with_what_raises_it_and_outlives_a_change_of_the_policy"],
    },
    Limit {
        row: "`requests`, `per`",
        constants: &[("src/credential/limits.rs", "MAX_PER")],
        // Examples, and the shortest.
        others: &["1m", "1h", "1s"],
        tests: &["limits_have_bounds_of_their_own", "a_rate_is_refused_and_says_when_the_next_request_is_allowed"],
    },
    Limit {
        row: "`concurrent`",
        constants: &[("src/credential/limits.rs", "MAX_CONCURRENT"), (CAPACITY, "turn")],
        others: &[],
        tests: &["limits_have_bounds_of_their_own", "a_request_waits_for_its_turn_and_not_for_ever"],
    },
];

/// `stdlib/README.md`.
const SCRIPTS: &[Limit] = &[
    Limit {
        row: "256 MiB of memory",
        constants: &[("src/lua/limits.rs", "MAX_MEMORY"), ("src/primitive/bottle/host.rs", "MAX_BURST")],
        others: &[],
        tests: &[
            "memory_depth_and_huge_strings_are_bounded",
            "the_bound_on_memory_holds_for_what_primitives_copy_and_keep_too",
            "whatever_does_not_end_is_ended_with_its_line",
        ],
    },
    Limit {
        row: "64 MiB for one call",
        constants: &[("src/lua/memory.rs", "MAX_GIVEN")],
        others: &[],
        tests: &["the_bound_on_memory_holds_for_what_primitives_copy_and_keep_too"],
    },
    Limit {
        row: "5,000 things created",
        constants: &[
            ("src/primitive/bottle/steps.rs", "MAX_MADE"),
            ("src/primitive/image/build.rs", "MAX_IMAGES"),
            ("src/lua/api/secret.rs", "MAX_SECRETS"),
            ("src/lua/api/secret.rs", "MAX_SECRET"),
        ],
        others: &[],
        tests: &["so_many_things_images_and_secrets_are_made_and_no_more"],
    },
];

/// `src/sidecar/git_gate/README.md`.
const GIT_GATE: &[Limit] = &[
    Limit {
        row: "connections, fetches, pushes at a time",
        constants: &[
            ("src/sidecar/git_gate/serve.rs", "CONNECTIONS"),
            ("src/sidecar/git_gate/gate.rs", "FETCHES"),
            ("src/sidecar/git_gate/gate.rs", "PUSHES"),
        ],
        others: &[],
        tests: &[
            "promise_15_further_connections_wait_for_another_to_end",
            "promise_15_further_fetches_wait_for_another_to_end",
            "promise_15_further_pushes_wait_for_another_to_end",
        ],
    },
    Limit {
        row: "a process of git",
        constants: &[("src/sidecar/git_gate/git.rs", "DEADLINE"), ("src/sidecar/git_gate/git.rs", "CPU")],
        others: &[],
        tests: &[
            "promise_15_a_process_that_does_not_end_is_killed_at_its_deadline",
            "promise_15_a_process_has_its_processor_time_limited_and_dumps_nothing",
        ],
    },
    Limit {
        row: "memory of a process that unpacks a push",
        constants: &[("src/sidecar/git_gate/git.rs", "HOSTILE"), ("src/sidecar/git_gate/git.rs", "OWN")],
        others: &[],
        tests: &["promise_15_a_process_has_bounds_of_output_and_memory"],
    },
    Limit {
        row: "commands of a push; their size",
        constants: &[
            ("src/sidecar/git_gate/commands.rs", "MAX_COMMANDS"),
            ("src/sidecar/git_gate/commands.rs", "MAX_BYTES"),
        ],
        others: &[],
        tests: &["what_is_no_push_of_ours_is_refused"],
    },
    Limit {
        row: "silence of a client that sends a pack",
        constants: &[("src/sidecar/git_gate/quarantine.rs", "IDLE")],
        others: &[],
        tests: &["promise_15_a_client_that_sends_nothing_any_more_is_refused_in_time"],
    },
    Limit {
        row: "a commit, tree or tag",
        constants: &[("src/sidecar/git_gate/objects.rs", "MAX_OTHER")],
        others: &[],
        tests: &["promise_15_a_commit_a_folder_and_a_tag_have_a_largest_size"],
    },
    Limit {
        row: "an object that is inspected while it arrives",
        constants: &[
            ("src/sidecar/git_gate/unpack.rs", "MAX_OBJECT"),
            ("src/sidecar/git_gate/unpack.rs", "MAX_UNPACKED"),
            ("src/sidecar/git_gate/unpack.rs", "MAX_OBJECTS"),
        ],
        others: &[],
        tests: &[
            "promise_10_what_arrives_is_inspected_by_its_id_and_large_files_and_deltas_are_left_to_git",
            "promise_15_so_many_objects_and_bytes_are_unpacked_while_they_arrive_and_no_more",
        ],
    },
    Limit {
        row: "work to inspect an object",
        constants: &[],
        others: &[],
        tests: &["promise_15_a_budget_is_a_base_and_so_much_for_each_byte"],
    },
    Limit {
        row: "texts that a file is unpacked to",
        constants: &[("src/sidecar/git_gate/texts.rs", "MAX_TEXTS"), ("src/sidecar/git_gate/texts.rs", "MAX_DEPTH")],
        others: &[],
        tests: &["promise_15_what_becomes_too_large_is_refused"],
    },
    Limit {
        row: "memory for a dictionary of xz",
        constants: &[("src/sidecar/git_gate/packed.rs", "XZ_MEMORY_KIB")],
        others: &["-9"],
        tests: &["promise_15_what_becomes_too_large_is_refused"],
    },
    Limit {
        row: "other references, and ids",
        constants: &[("src/sidecar/git_gate/mirror.rs", "MAX_OTHERS"), ("src/sidecar/git_gate/mirror.rs", "MAX_IDS")],
        others: &[],
        tests: &["too_many_references_at_once_are_refused_with_their_number"],
    },
    Limit {
        row: "list of published objects",
        constants: &[("src/sidecar/git_gate/publish.rs", "MAX_LIST")],
        others: &[],
        tests: &["promise_15_a_push_of_too_many_objects_is_refused"],
    },
    Limit {
        row: "lists of an upstream that are made at a time for pushes",
        constants: &[
            ("src/sidecar/git_gate/kept.rs", "LISTS"),
            ("src/sidecar/git_gate/kept.rs", "MOST"),
            ("src/sidecar/git_gate/kept.rs", "KEEP"),
        ],
        others: &[],
        tests: &[
            "promise_15_so_many_conversations_wait_and_lists_are_made_and_no_more",
            "promise_15_a_conversation_waits_so_long_for_its_push_and_is_closed",
        ],
    },
    Limit {
        row: "references of an upstream",
        constants: &[
            ("src/sidecar/git_gate/mirror.rs", "MAX_REFS"),
            ("src/sidecar/git_gate/advertised.rs", "MAX_REFS"),
        ],
        others: &[],
        tests: &[
            "promise_15_an_upstream_with_too_many_references_is_not_read",
            "promise_15_so_many_references_of_an_upstream_are_read_and_no_more",
        ],
    },
    Limit {
        row: "request of a fetch",
        constants: &[("src/sidecar/git_gate/fetch.rs", "MAX_REQUEST")],
        others: &["413"],
        tests: &["promise_15_the_request_of_a_fetch_has_a_largest_size_also_when_it_is_unpacked"],
    },
    Limit {
        row: "an object of LFS",
        constants: &[
            ("src/sidecar/git_gate/lfs.rs", "MAX_OBJECTS"),
            ("src/sidecar/git_gate/lfs_serve.rs", "MAX_BATCH"),
        ],
        others: &[],
        tests: &["a_request_is_written_again_from_what_was_understood"],
    },
    Limit {
        row: "a signature by an ssh agent",
        constants: &[("src/primitive/sidecar/sign.rs", "PATIENCE"), ("src/primitive/sidecar/sign.rs", "AT_ONCE")],
        others: &[],
        tests: &["promise_15_so_many_signatures_are_waited_for_at_a_time_and_not_for_ever"],
    },
    Limit {
        row: "silence of the gate during a push",
        constants: &[("src/sidecar/git_gate/report.rs", "SILENCE")],
        others: &[],
        tests: &["a_client_that_waits_hears_a_sign_of_life_in_time"],
    },
];

/// `src/workspace/README.md`.
const WORKSPACE: &[Limit] = &[
    Limit {
        row: "200,000 files in a workspace",
        constants: &[("src/workspace/file.rs", "MAX_FILES"), ("src/workspace/file.rs", "MAX_ARCHIVE")],
        others: &[],
        tests: &[
            "promise_15_so_many_files_are_listed_and_no_more",
            "promise_15_so_many_files_are_read_and_no_more",
            "promise_15_what_could_not_be_read_back_is_not_copied",
            "promise_15_an_archive_of_the_largest_size_is_taken_and_a_larger_one_is_not",
        ],
    },
    Limit {
        row: "256 MiB of a file in a patch",
        constants: &[("src/workspace/patch.rs", "MAX_CHANGE")],
        others: &[],
        tests: &["promise_15_a_file_of_the_largest_size_is_in_a_patch_and_a_larger_one_is_named"],
    },
    Limit {
        row: "16 MiB of a file that is compared",
        constants: &[("src/workspace/patch.rs", "MAX_TEXT")],
        others: &[],
        tests: &["promise_15_text_of_the_largest_size_is_compared_and_larger_text_is_a_binary_change"],
    },
    Limit {
        row: "16 MiB of a file, 256 MiB in total",
        constants: &[("src/workspace/file.rs", "MAX_FILE"), ("src/workspace/file.rs", "MAX_BYTES")],
        others: &[],
        tests: &["promise_15_what_a_recipe_reads_is_held_up_to_a_size_and_known_by_its_hash_beyond_it"],
    },
    Limit {
        row: "64 MiB of a table of references",
        constants: &[("src/workspace/tables.rs", "MAX_TABLE"), ("src/workspace/tables.rs", "MAX_BUDGET")],
        others: &[],
        tests: &["what_grows_is_bounded_and_what_others_read_otherwise_is_refused"],
    },
    Limit {
        row: "3400 bytes of a path",
        constants: &[("src/workspace/archive_reader.rs", "LONG_PATH")],
        others: &[],
        tests: &["promise_15_below_a_long_path_nothing_is_sure"],
    },
];

/// A constant's value: a number, or a time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Number(u64),
    Time(u64),
}

/// Reads a number with `<<`, `*`, `+` and `-`, in that order from the outside in.
fn number(text: &str, file: &str) -> Option<u64> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    for (sign, apply) in [
        ("+", (|a, b| a + b) as fn(u64, u64) -> u64),
        (" - ", |a, b| a - b),
        ("<<", |a, b| a << b),
        ("*", |a, b| a * b),
    ] {
        if let Some((left, right)) = text.rsplit_once(sign) {
            return Some(apply(number(left, file)?, number(right, file)?));
        }
    }
    let text = text.trim_start_matches('(').trim_end_matches(')').trim_end_matches(" as u64");
    text.replace('_', "").parse().ok().or_else(|| match constant(file, text) {
        Some(Value::Number(number)) => Some(number),
        _ => None,
    })
}

fn value(text: &str, file: &str) -> Option<Value> {
    let Some((unit, rest)) = text.strip_prefix("Duration::").and_then(|call| call.split_once('(')) else {
        return number(text, file).map(Value::Number);
    };
    let each = match unit.trim_start_matches("from_") {
        "millis" => 1,
        "secs" => 1000,
        "mins" => 60_000,
        "hours" => 3_600_000,
        "days" => 86_400_000,
        _ => return None,
    };
    Some(Value::Time(number(rest.trim_end_matches(')'), file)? * each))
}

/// The value of a constant, or of a field of one, by the source.
fn constant(file: &str, name: &str) -> Option<Value> {
    let source = std::fs::read_to_string(root().join(file)).ok()?;
    let (name, part) = name.split_once('.').map_or((name, None), |(name, part)| (name, part.parse::<usize>().ok()));
    for (before, end) in [(format!("const {name}: "), ';'), (format!(" {name}: "), ',')] {
        for (at, _) in source.match_indices(&before) {
            let rest = &source[at + before.len()..];
            let line = rest.lines().next().unwrap_or_default();
            let Some(text) = line.trim_end().strip_suffix(end) else { continue };
            let text = if end == ';' { text.split_once("= ").map_or("", |(_, text)| text) } else { text };
            let parts = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
            let text = match (part, parts) {
                (Some(part), Some(parts)) => parts.split(", ").nth(part).unwrap_or_default(),
                _ => text,
            };
            if let Some(value) = value(text, file) {
                // `BUFFERED_KIB` counts them.
                return Some(match value {
                    Value::Number(number) if name.ends_with("_KIB") => Value::Number(number << 10),
                    // Milliseconds in a limit of time.
                    Value::Number(number) if part == Some(1) => Value::Time(number),
                    value => value,
                });
            }
        }
    }
    None
}

/// How a text may write a value.
fn spellings(value: Value) -> Vec<String> {
    let mut all = Vec::new();
    match value {
        Value::Number(number) => {
            for (unit, size) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
                if number >= size && number % size == 0 {
                    all.push(format!("{} {unit}", number / size));
                    // In a list of sizes of one unit.
                    all.push((number / size).to_string());
                }
            }
            all.insert(0, number.to_string());
            let digits = number.to_string();
            let groups: Vec<&str> =
                digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
            all.push(groups.join(","));
        }
        Value::Time(time) => {
            let units: [(&[&str], u64); 4] =
                [(&["days"], 86_400_000), (&["h"], 3_600_000), (&["min", "minutes"], 60_000), (&["s"], 1000)];
            for (names, size) in units {
                if time >= size && time % size == 0 {
                    all.extend(
                        names
                            .iter()
                            .flat_map(|name| [format!("{} {name}", time / size), format!("{}{name}", time / size)]),
                    );
                }
            }
            all.extend((time == 1000).then(|| "one a second".to_owned()));
            all.extend((time == 60_000).then(|| "in a minute".to_owned()));
        }
    }
    all
}

/// Takes the first of these words out of a text; a number is neither a part of a longer one nor that of a unit.
fn take(text: &mut String, words: &[String]) -> bool {
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    for word in words {
        let mut places = text.match_indices(word.as_str()).map(|(at, _)| at);
        let place = places.find(|&at| {
            let (before, behind) = (&text[..at], &text[at + word.len()..]);
            let has_unit = is_number(word) && [" KiB", " MiB", " GiB"].iter().any(|unit| behind.starts_with(unit));
            let is_digit = |letter: char| letter.is_ascii_digit();
            !before.ends_with(is_digit) && !behind.starts_with(is_digit) && !has_unit
        });
        if let Some(at) = place {
            text.replace_range(at..at + word.len(), "#");
            return true;
        }
    }
    false
}

/// The rows of the first table below a heading, without its first two lines.
fn rows(path: &str, heading: &str) -> Vec<String> {
    let text = Readme::read(path).text;
    let (_, below) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{path} has no {heading}"));
    let lines = below.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    lines.skip(2).map(|line| line.trim_matches([' ', '|']).to_owned()).collect()
}

/// All sources of tests.
fn sources() -> String {
    let (mut all, mut folders) = (String::new(), vec![root().join("src"), root().join("tests")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("corpus") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    all
}

#[test]
fn promise_15_the_limits_in_the_readmes_are_those_of_the_sources_and_each_is_reached_by_a_test() {
    let sources = sources();
    for (path, heading, limits) in [
        ("src/policy/README.md", "## Limits", POLICY),
        ("src/manifest/README.md", "### Limits of requests", REQUESTS),
        ("stdlib/README.md", "### Limits", SCRIPTS),
        ("src/sidecar/git_gate/README.md", "## Limits", GIT_GATE),
        ("src/workspace/README.md", "## Limits", WORKSPACE),
    ] {
        let rows = rows(path, heading);
        for (row, limit) in rows.iter().zip(limits) {
            assert!(row.starts_with(limit.row), "{path}: {row}\nis not listed in tests/unit/limits.rs: {}", limit.row);
            let mut left = row.clone();
            for other in limit.others {
                while take(&mut left, &[(*other).to_owned()]) {}
            }
            for (file, name) in limit.constants {
                let value = constant(file, name).unwrap_or_else(|| panic!("{file} has no {name} that can be read"));
                let words = spellings(value);
                assert!(take(&mut left, &words), "{path}: {row}\nhas no {words:?}, of {name} in {file}: {left}");
            }
            assert!(
                !left.contains(|letter: char| letter.is_ascii_digit()),
                "{path}: {row}\nof what constant is it: {left}"
            );
            assert!(!limit.tests.is_empty(), "{path}: {row}\nno test reaches it");
            for test in limit.tests {
                assert!(sources.contains(&format!("fn {test}(")), "{path}: {row}\nthere is no test {test}");
            }
        }
        assert_eq!(rows.len(), limits.len(), "{path}: rows of the table, and those listed here");
    }
}

#[test]
fn values_and_their_spellings_are_read() {
    for (text, expected) in [
        ("64 << 10", Some(Value::Number(65_536))),
        ("(128 << 10) - 1", Some(Value::Number(131_071))),
        ("16_384", Some(Value::Number(16_384))),
        ("Duration::from_hours(31 * 24)", Some(Value::Time(31 * 86_400_000))),
        ("Duration::days(30)", Some(Value::Time(30 * 86_400_000))),
        ("usize", None),
    ] {
        assert_eq!(value(text, "Cargo.toml"), expected, "{text}");
    }
    for (row, value, expected) in [
        ("8 MiB of it", Value::Number(8 << 20), true),
        ("8 MiB of it", Value::Number(8), false),
        ("18 of it", Value::Number(8), false),
        ("5,000 of it", Value::Number(5000), true),
        ("10 minutes", Value::Time(600_000), true),
        ("10 minutes", Value::Time(10_000), false),
    ] {
        assert_eq!(take(&mut row.to_owned(), &spellings(value)), expected, "{row} {value:?}");
    }
    assert_eq!(constant(COALESCE, "fresh.0"), Some(Value::Number(256)));
    assert_eq!(constant(CAPACITY, "stall"), Some(Value::Time(60_000)));
}
