"""Each sentence of docs/loader.md, by its beginning, with the test that would fail if it were false.

A sentence that is new or was rewritten fails here until its test is named. `ADVICE` has the sentences that claim
nothing of their own.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "loader.md"

TORCH = "sdk/loaders/test_torch.py"
LOOPS = "sdk/loaders/test_training_loops.py"
LAZY = "sdk/loaders/test_lazy_reading.py"
FAILING = "sdk/loaders/test_failing_rows.py"
STREAMS = "sdk/loaders/test_streams.py"
RANKS = "sdk/loaders/test_distribution.py"
STATE = "sdk/loaders/test_state.py"
COLLATE = "sdk/loaders/test_collate.py"
MAPPED = "sdk/loaders/test_mapped_rows.py"
MAPPING = "sdk/caching/test_mapping.py"
FUNCTIONS = "sdk/caching/test_mapped_functions.py"
CHANGES = "sdk/plan/test_function_changes.py"
ORDER = "sdk/plan/test_order.py"
SHARED = "sdk/run/test_shared.py"
END = "sdk/loaders/test_interpreter_end.py"
FRAMEWORKS = "sdk/loaders/test_frameworks.py"
RESUMES = "conformance/test_loaders.py"
SPARSE = "sdk/loaders/test_sparse_columns.py"

CLAIMS = {
    "`to_torch` makes tensors of the rows of any": f"{RANKS}::test_ranks_take_equal_steps_and_see_every_row_once",
    "| [sparse columns](#sparse-columns)": f"{SPARSE}::test_batches_are_csr_or_dense",
    "Rows of a matrix with few entries": f"{SPARSE}::test_batches_are_csr_or_dense",
    "The field that `lakefeed.sparse_field` returns": f"{SPARSE}::test_the_width_stays_with_the_column",
    "Rows of different widths do not fit": f"{SPARSE}::test_rows_of_another_width_do_not_fit",
    "The indices of a row are ascending": f"{SPARSE}::test_a_row_that_is_not_one_is_an_error",
    "`to_torch()` reads no rows": f"{LAZY}::test_a_loader_reads_nothing_before_it_is_used",
    "What needs them first reads them": f"{LAZY}::test_a_loader_reads_nothing_before_it_is_used",
    "Wrong arguments are refused at the call": f"{LAZY}::test_bad_arguments_are_refused_at_the_call_and_read_nothing",
    "The place of every row in an epoch follows": f"{RANKS}::test_ranks_take_equal_steps_and_see_every_row_once",
    "Iterating a loader delivers one epoch": f"{TORCH}::test_epochs_follow_one_another",
    "The delivery of its last batch ends an epoch": f"{LOOPS}::test_the_last_batch_ends_the_epoch_in_every_loop",
    "An iteration that was abandoned begins again": f"{LOOPS}::test_a_peek_keeps_a_loaded_position",
    "`infinite=True` goes on": f"{RANKS}::test_an_infinite_loader_goes_on_with_the_next_epoch",
    "A StopIteration out of a function": f"{LOOPS}::test_a_stop_iteration_is_an_error",
    "Any error of a function names the row": f"{FAILING}::test_a_failing_row_is_named",
    'With `on_error="skip"`, `map` and `load_files`': f"{FAILING}::test_a_resume_skips_the_same_rows",
    "`loader.metrics.rows_skipped` counts": f"{FAILING}::test_rows_that_fail_are_skipped_and_counted",
    "`shuffle(seed)` is a fair permutation": f"{ORDER}::test_a_fair_shuffle_draws_every_permutation_equally_often",
    "`shuffle(seed, global_=False)` reads files": f"{TORCH}::test_each_row_group_is_decoded_once_an_epoch",
    "A window that nobody chose has": f"{STATE}::test_a_window_bounded_by_bytes_is_part_of_the_order",
    "A batch of 256 spans": f"{ORDER}::test_batches_of_a_windowed_shuffle_span_the_table",
    "Every rank takes the same number of steps": f"{RANKS}::test_ranks_take_equal_steps_and_see_every_row_once",
    "`drop_last=True` leaves it out": f"{RESUMES}::test_drop_last_drops_on_all_ranks",
    "`shuffle`, `sample` and `interleave": f"{LOOPS}::test_a_seed_that_every_rank_draws_by_itself_is_refused",
    "Fewer rows than ranks are an error": (
        f"{LAZY}::test_too_few_rows_for_the_ranks_are_told_as_soon_as_their_number_is_known"
    ),
    "How many rows a filter keeps": f"{RANKS}::test_kept_rows_are_counted_once_for_a_snapshot",
    "Rows of a plan that sorts, joins, queries": f"{SHARED}::test_ranks_of_a_machine_run_a_plan_once",
    "The file goes with the last rank": f"{SHARED}::test_what_a_killed_process_left_is_not_used_and_goes",
    "The rows are read, decoded and gathered": f"{RANKS}::test_workers_do_not_read_what_the_others_read",
    "Worker processes get planned work": f"{RANKS}::test_no_worker_is_idle_because_there_is_one_file",
    "So each row group is decoded once for a rank": f"{RANKS}::test_workers_do_not_read_what_the_others_read",
    "With `num_workers=0` functions run in the thread": f"{LOOPS}::test_functions_run_in_the_thread_of_the_loop",
    "Functions are sent to workers that are not forked": (
        f"{RANKS}::test_lambdas_are_refused_at_the_call_where_workers_are_not_forked"
    ),
    "A function below a filter or `map_batches`": (
        f"{RANKS}::test_lambdas_are_refused_at_the_call_where_workers_are_not_forked"
    ),
    "A loader works until the interpreter has ended": f"{END}::test_a_loader_works_until_the_interpreter_has_ended",
    "The arguments of `torch.utils.data.DataLoader`": f"{TORCH}::test_other_arguments_go_to_the_dataloader",
    "Rows that have no addresses": f"{STREAMS}::test_a_resume_is_exact_with_other_batches_ranks_and_workers",
    "The first batch comes after": f"{STREAMS}::test_the_first_batch_comes_after_the_first_batches_of_the_source",
    "Ctrl-C ends it within a second": f"{END}::test_ctrl_c_ends_a_stream_within_a_second",
    "`shuffle(seed, global_=False, window=w)` fills": (
        f"{STREAMS}::test_a_windowed_order_depends_on_rows_window_seed_and_epoch_alone"
    ),
    "Without `window=` it is 10,000 rows": f"{STREAMS}::test_a_window_that_nobody_chose_is_bounded_in_bytes",
    "Where the source has several shards": f"{STREAMS}::test_shards_of_a_shuffled_stream_are_mixed",
    "The order follows from the rows of the source": (
        f"{STREAMS}::test_a_windowed_order_depends_on_rows_window_seed_and_epoch_alone"
    ),
    "`len(loader)` is unknown": f"{STREAMS}::test_an_endless_stream_gives_batches_and_has_no_length",
    "Every rank reads the whole stream": (
        f"{STREAMS}::test_ranks_get_the_batches_that_they_would_get_if_the_rows_were_counted"
    ),
    "`loader.metrics.rows_read` counts": (
        f"{STREAMS}::test_ranks_get_the_batches_that_they_would_get_if_the_rows_were_counted"
    ),
    "A checkpoint is exact, for any number": f"{STREAMS}::test_a_resume_is_exact_with_other_batches_ranks_and_workers",
    "A resume begins the stream again": f"{STREAMS}::test_a_resume_is_exact_with_other_batches_ranks_and_workers",
    "A stream that gives other rows": f"{STREAMS}::test_a_stream_that_gives_other_rows_is_refused",
    "`len(loader)` is the number of steps": f"{TORCH}::test_length_is_that_of_a_whole_epoch",
    "`state_dict()` is under 1 KB of JSON": f"{STATE}::test_a_state_is_small_whatever_the_plan",
    "It counts the batches that": f"{TORCH}::test_a_state_counts_delivered_batches_not_prefetched_ones",
    "The loaders of a job that begins anew": f"{TORCH}::test_the_usual_loop_with_set_epoch_resumes",
    "A state of another snapshot, seed or plan": f"{RANKS}::test_a_state_of_another_snapshot_or_plan_says_what_changed",
    "Functions count by what they use": f"{CHANGES}::test_a_change_of_anything_that_a_function_uses_is_noticed",
    "A state that Python cannot write down": (
        f"{CHANGES}::test_a_state_that_cannot_be_written_is_refused_for_rows_that_are_kept"
    ),
    "A resume decodes one pool": f"{TORCH}::test_a_resume_near_the_end_decodes_only_what_it_needs",
    "| integers, floats, booleans |": f"{COLLATE}::test_numbers_keep_their_dtype",
    "| dates, times, timestamps, durations |": f"{COLLATE}::test_times_are_counts_of_their_unit",
    "| fixed-size lists of those, fixed-shape tensors |": f"{MAPPED}::test_fixed_shape_tensors_keep_their_shape",
    "| lists of varying length of those |": f"{COLLATE}::test_lists_of_vectors",
    "| text, bytes, structs, everything else |": f"{COLLATE}::test_everything_else_is_a_python_list",
    "Null is NaN in float columns": f"{COLLATE}::test_null_where_no_value_can_stand_for_it_is_an_error",
    "With `batch_size=None` single rows come": f"{TORCH}::test_single_rows",
    "Batches are the caller's own": f"{LOOPS}::test_a_batch_is_saved_and_differentiated_by_itself",
    "No two columns or batches share memory": f"{LOOPS}::test_batches_have_memory_of_their_own",
    "They are slices of decoded row groups": f"{TORCH}::test_tensors_in_order_share_memory_with_the_decoded_rows",
    "A loader is a `torch.utils.data.DataLoader`": f"{LOOPS}::test_frameworks_see_sizes",
    "With several ranks give `world=World.from_torch()`": f"{RANKS}::test_two_processes_train_together",
    "It calls `set_epoch`": f"{FRAMEWORKS}::test_lightning_resumes",
    "`accelerator.prepare(loader)` and": f"{FRAMEWORKS}::test_accelerate",
    "With several ranks `prepare` returns": f"{FRAMEWORKS}::test_accelerate_on_two_ranks",
    "Any DataLoader over `loader.dataset`": f"{LOOPS}::test_a_dataloader_rebuilt_of_the_parts_delivers_the_epochs",
    "`mapped()` keeps the rows": f"{MAPPING}::test_it_is_made_once_for_a_version_and_plan",
    "It is mapped into memory privately": f"{MAPPING}::test_a_loader_over_it_shares_no_memory_with_it",
    "Functions (`map`, `filter`) count by": f"{FUNCTIONS}::test_globals_of_a_function_count",
    "Rows of `from_batches`, `from_torch` and streams": f"{FUNCTIONS}::test_what_cannot_be_told_is_made_for_each_call",
    "Name a folder (`mapped(path)`)": f"{MAPPING}::test_at_a_path_of_ones_own",
    "So it is a map-style dataset": f"{MAPPING}::test_a_plain_dataloader_with_any_sampler",
    "PyTorch's default `collate_fn` then makes": f"{MAPPED}::test_a_plain_dataloader_makes_the_batches_of_to_torch",
    "Columns that your code changed": f"{MAPPED}::test_columns_that_were_changed_are_collated_as_they_are",
    "`local.shuffle(seed).to_torch(...)` reads": f"{MAPPING}::test_a_loader_over_it_shares_no_memory_with_it",
    "File columns stay references": f"{MAPPED}::test_files_are_handles",
    "`to_huggingface(streaming=True)` gives": "sdk/sources/test_huggingface.py::test_to_huggingface_streams",
    "`loader.metrics`, which prints as a table, has batches": f"{RANKS}::test_metrics_count_what_was_delivered",
    "Of the files that `load_files` loads": f"{RANKS}::test_metrics_count_files_that_were_there_or_fetched",
}

ADVICE = (
    "It needs `pip install './sdk[torch]'`",
    "Files with much larger row groups",
    "`map`, `load_files`, `collate_fn`.",  # the end of a sentence
    "`mapped()`, `cache(path)` and `save()` keep the rows",
    "Lightning: give the loader to the trainer",
    "accelerate and the trainer of transformers:",
    "If it waited for most of them",
    "| Column | Batch |",
    "The indices of a row are ascending",
    '`sparse="dense"` costs less',
)


def sentences() -> list[str]:
    """The sentences of the page, and the rows of its tables."""
    split: list[str] = []
    for line in map(str.strip, re.sub(r"```.*?```", "", PAGE.read_text("utf-8"), flags=re.S).splitlines()):
        if line.startswith("|"):
            split += [line] if set(line) - set("|-") else []
        elif line and not line.startswith("#"):
            split += re.split(r"(?<=[.:;])\s+(?=[A-Z`])", line.removeprefix("- "))
    return split


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text("utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_sentence_of_the_page_has_a_test() -> None:
    known = (*CLAIMS, *ADVICE)
    assert [sentence for sentence in sentences() if not sentence.startswith(known)] == []


@pytest.mark.parametrize("beginning", [*CLAIMS, *ADVICE])
def test_the_page_has_each_sentence_once(beginning: str) -> None:
    assert [sentence for sentence in sentences() if sentence.startswith(beginning)][1:] == []
    assert any(sentence.startswith(beginning) for sentence in sentences()), "the page no longer says this"


def test_docstrings_of_tests_quote_the_page() -> None:
    page = PAGE.read_text("utf-8")
    quotes = [
        (path.name, quote)
        for path in (TESTS / "sdk" / "loaders").glob("test_*.py")
        for quote in re.findall(r'"""docs/loader\.md: "(.+?)"\.', path.read_text("utf-8"))
    ]
    assert len(quotes) > 10
    assert [(name, quote) for name, quote in quotes if quote not in page] == []


def test_every_test_exists() -> None:
    missing = [claim for claim in CLAIMS.values() if claim.split("::")[1] not in functions(claim.split("::")[0])]
    assert missing == []
