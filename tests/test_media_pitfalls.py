"""Each thing that went wrong with media in a gateway before has tests here that show it does not.

A row is one pitfall and the tests of it, by name.
"""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

PITFALLS = {
    "the boundary or the content type of the client is forwarded": (
        "test_form_body_any_fields_are_read_back_as_they_were",
        "test_literal_form_of_a_client_is_read",
        "test_node_form_is_read",
    ),
    "a chunked upload is truncated": ("test_chunked_form_of_random_bytes_arrives_whole",),
    "fields called image[] and mask[] are lost": (
        "test_sdk_edit_carries_every_image_and_the_mask_in_their_order",
        "test_form_of_open_webui_edits_images",
    ),
    "edits are sent as JSON where a form is needed": (
        "test_json_to_a_form",
        "test_form_to_json",
        "test_edit_by_json_reaches_a_target_that_takes_forms",
    ),
    "settings are not applied to forms": (
        "test_settings_change_the_forwarded_edit",
        "test_transcription_settings_of_the_upstream_change_the_form",
    ),
    "a form is held whole in memory": ("test_large_transcriptions_at_once_take_little_memory",),
    "speech is buffered": (
        "test_first_bytes_come_while_the_upstream_holds_the_rest",
        "test_disconnect_closes_the_upstream",
    ),
    "speech is always called audio/mpeg": ("test_content_type_agrees_with_the_bytes",),
    "a transcript as text is sent as JSON": (
        "test_transcript_that_looks_like_json_stays_text",
        "test_sdk_transcribes_into_every_format",
    ),
    "formats and streams are not charged": (
        "test_every_format_costs_the_same",
        "test_transcription_costs_the_same_in_each_format_and_streamed",
    ),
    "a file id is not understood in conversations": (
        "test_an_uploaded_file_is_seen_at_every_target",
        "test_a_file_is_uploaded_to_the_vendor_once_and_deleted_with_ours",
    ),
    "a URL is given as a file id": ("test_a_url_in_a_file_id_is_fetched_and_inlined",),
    "a download is decoded as text": (
        "test_curl_uploads_the_file_first_and_downloads_every_byte",
        "test_content_whole_ranges_and_conditions",
    ),
    "ids and cursors of another tenant are read": (
        "test_two_tenants_over_every_verb_answer_as_for_an_unknown_id",
        "test_a_file_of_another_key_is_answered_like_one_that_does_not_exist",
        "test_a_file_of_another_key_is_not_read_by_media_routes",
        "test_job_of_another_key_is_answered_as_one_that_does_not_exist",
    ),
    "a plain list breaks": ("test_plain_lists_of_both_sdks_walk_2500_files",),
    "a stored file runs in a browser": ("test_content_is_nothing_that_a_browser_runs",),
    "filenames are destroyed or escape": ("test_filename_is_stored_listed_and_downloaded",),
    "a quota is checked before it is used": (
        "test_quota_race_of_twenty_uploads_admits_exactly_one",
        "test_race_on_postgresql_over_two_workers_admits_exactly_one",
    ),
    "objects are left without rows": (
        "test_kills_at_every_point_of_a_folder",
        "test_kills_at_every_point_of_a_bucket",
    ),
    "a repeated attempt sends an empty file": (
        "test_second_target_gets_all_bytes",
        "test_transcription_second_target_gets_the_whole_file",
        "test_upload_empty_missing_double_and_large_files_are_refused",
    ),
    "images fill the memory": (
        "test_heavy_images_do_not_fill_the_memory",
        "test_heavy_pictures_are_described_in_bounded_memory",
        "test_many_large_files_at_once_take_a_bounded_memory",
    ),
    "a URL of the provider gets the key of the caller": (
        "test_link_leads_to_the_image_and_is_ours",
        "test_link_of_the_provider_reaches_no_client_and_no_log",
    ),
    "a URL of a caller reaches the inside": (
        "test_there_are_more_than_sixty_bypasses",
        "test_every_bypass_is_refused_and_no_connection_is_attempted",
        "test_every_bypass_is_refused_behind_a_redirect",
        "test_a_name_that_changes_its_address_is_connected_where_it_was_checked",
    ),
    "a part is dropped in silence": ("test_every_part_before_a_text_model_is_text_or_a_refusal",),
    "an old image ends a session": ("test_failing_describer_refuses_new_media_and_notes_old_ones",),
    "media are described at each turn": ("test_ten_turns_describe_once_and_keep_the_prefix",),
    "a fallback mixes models that see and models that do not": (
        "test_fallback_to_a_text_model_describes",
        "test_fallback_to_a_seeing_model_sends_the_image",
    ),
    "words in a picture are obeyed": (
        "test_words_in_a_picture_cannot_leave_their_tag",
        "test_markers_of_turns_and_tags_are_changed",
    ),
    "a repeated submission makes a second job": (
        "test_dropped_connection_after_acceptance_is_one_job_and_one_charge",
        "test_submission_without_an_answer_is_looked_for_and_not_sent_again",
    ),
    "a job is charged twice, or charged though it failed": (
        "test_each_job_has_one_end_one_bill_and_its_result",
        "test_failed_and_filtered_jobs_cost_nothing",
    ),
    "a poll costs money or a call of the upstream": (
        "test_thousand_polls_ask_no_upstream_and_cost_nothing",
    ),
    "a decoder crashes the worker": (
        "test_hostile_media_are_400_and_the_worker_lives",
        "test_nothing_breaks",
    ),
    "clients guess by the name of a model": (
        "test_ai_sdk_makes_images_at_a_model_that_refuses_its_response_format",
        "test_ai_sdk_transcribes_with_segments_that_the_model_may_not_know",
        "test_body_of_open_webui_makes_an_image",
    ),
    "helpers of SDKs wait for ever": (
        "test_openai_sdk_uploads_lists_reads_and_deletes",
        "test_openai_sdk_creates_and_polls",
    ),
}


@pytest.fixture(scope="module")
def names() -> set[str]:
    return {
        node.name
        for path in TESTS.rglob("test_*.py")
        if "node_modules" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("pitfall", PITFALLS)
def test_each_pitfall_of_media_has_its_tests(pitfall: str, names: set[str]) -> None:
    assert [name for name in PITFALLS[pitfall] if name not in names] == []
