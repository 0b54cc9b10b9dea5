"""The defects: what each one does wrong, where, and the test that must fail with it in place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defect:
    """In `file` the text `old`, which is there once, becomes `new`. `quick`: its test runs in `make test`, too."""

    name: str
    file: str
    old: str
    new: str
    test: str
    quick: bool = False


_WRITER = "consumer/writer.py"
_BATCH = "consumer/batch.py"
_BREAKER = "consumer/breaker.py"
_PIPELINE = "consumer/pipeline.py"
_CONVERSION = "consumer/sinks/conversion.py"
_SQLITE = "consumer/sinks/sqlite"
_POSTGRES = "consumer/sinks/postgres"
_UNIT_WRITER = "tests/unit/test_writer.py"
_PUBLISHING = "tests/unit/test_writer_publishing.py"
_GREAT = "tests/property/test_pipeline.py"
_SINK = "tests/contract/test_sink.py"
_UPSERTS = "tests/contract/test_postgres_upserts.py"
_ISOLATION = "tests/contract/test_isolation.py"
_LETTERS = "tests/contract/test_letters.py"
_HINT = "tests/integration/test_postgres_isolation.py::test_how_far_the_server_got_is_but_a_hint"
_PROOF = "tests/integration/test_postgres_proof.py"
_TRANSACTIONS = "tests/contract/test_postgres_transactions.py"
_ACCOUNTING = "tests/property/test_accounting.py"
_TOPIC = "consumer/deadletter/__init__.py"
_GOAL, _JOBS = "tests/unit/test_goal.py", "tests/property/test_jobs.py"
_REGISTRY = "consumer/decode/registry.py"
_IDS = "consumer/decode/avro_ids.py"
_UNIT_IDS = "tests/unit/decode/test_avro_ids.py"
_CLIENT = "tests/integration/test_registry_client.py"
_PORT, _ADMIN = "consumer/port.py", "tests/integration/test_admin.py"

_DAMAGE = "tests/property/test_vectors.py::test_damaged_payloads_are_left_to_the_rows"
_VALUES = "tests/property/test_vectors.py::test_what_a_writer_wrote_is_read_as_vectors_with_the_same_values"
_ALIKE = "tests/contract/test_postgres_vectors.py::test_vectors_and_rows_end_alike"

DEFECTS = (
    Defect(
        "offsets are committed before the rows are written",
        _WRITER,
        "                self._sink.begin(fences)\n",
        "                self._sink.begin(fences)\n"
        "                self._sink.commit(batch.next_offsets)\n"
        "                ends = batch.next_offsets\n"
        "                self._sink.begin({key: Fence(f.epoch, ends[key]) for key, f in fences.items()})\n",
        f"{_UNIT_WRITER}::test_too_many_bad_records_keep_nothing",
        quick=True,
    ),
    Defect(
        "the breaker is judged after the dead letters are kept and committed",
        _WRITER,
        "            self._judge(batch, failures, isolated.finished)\n"
        "            letters = self._letters(batch, failures)\n"
        "            if letters and self._sink.transactional:\n"
        "                self._sink.letters.keep(letters)\n"
        "            batch.outcome = written = _written(batch, mapped, failures, letters, seconds)\n"
        "            began = self._clock()\n"
        "            self._sink.commit(batch.next_offsets)\n",
        "            letters = self._letters(batch, failures)\n"
        "            if letters and self._sink.transactional:\n"
        "                self._sink.letters.keep(letters)\n"
        "            batch.outcome = written = _written(batch, mapped, failures, letters, seconds)\n"
        "            began = self._clock()\n"
        "            self._sink.commit(batch.next_offsets)\n"
        "            self._judge(batch, failures, isolated.finished)\n",
        f"{_UNIT_WRITER}::test_too_many_bad_records_keep_nothing",
    ),
    Defect(
        "after a COMMIT without an answer nobody asks how it ended",
        _WRITER,
        "            self._settle(batch)\n",
        "            pass\n",
        f"{_UNIT_WRITER}::test_a_commit_without_an_answer_is_found_out",
    ),
    Defect(
        "PostgreSQL: rows of a partition that somebody else claimed are written",
        f"{_POSTGRES}/__init__.py",
        "        if fenced := self._fenced(answers[len(before) + len(_BEGIN)], fences):\n            run(",
        "        if fenced := []:\n            run(",
        f"{_SINK}::test_fencing_names_exactly_the_partitions_that_differ",
    ),
    Defect(
        "PostgreSQL: in a single query nobody looks who owns the partitions",
        f"{_POSTGRES}/__init__.py",
        "        if fenced := self._fenced(answers[len(_BEGIN)], fences):\n            raise",
        "        if fenced := []:\n            raise",
        f"{_SINK}::test_a_fenced_transaction_in_one_call_writes_nothing",
    ),
    Defect(
        "PostgreSQL: a single query leaves the offsets where they were",
        f"{_POSTGRES}/__init__.py",
        "        parts, moves = self._tables.parts(connection, rows), self._moves(next_offsets)\n",
        "        parts, moves = self._tables.parts(connection, rows), self._moves({})\n",
        f"{_SINK}::test_a_transaction_in_one_call",
    ),
    Defect(
        "PostgreSQL: a single query that is left commits the rows that it was given",
        f"{_POSTGRES}/script.py",
        '                    self.abandon("left early")\n',
        "                    self.end()\n",
        f"{_TRANSACTIONS}::test_a_script_that_is_left_commits_nothing",
    ),
    Defect(
        "PostgreSQL: errors of a query that nobody asked for are swallowed",
        f"{_POSTGRES}/script.py",
        "        for result in [] if raised else left:\n            _require_success(result)\n",
        "",
        f"{_TRANSACTIONS}::test_what_fails_unheard_in_a_script_is_raised_at_its_end",
    ),
    Defect(
        "PostgreSQL: a single query writes into a table that is no longer as it was described",
        f"{_POSTGRES}/__init__.py",
        "        if not self._as_described(answers[-2]):\n            raise InTheWayError\n",
        "",
        f"{_TRANSACTIONS}::test_a_table_that_changed_is_seen_before_rows_are_sent",
    ),
    Defect(
        "a batch that was written at once is not known when its COMMIT has no answer",
        _WRITER,
        "        batch.outcome = written = _written(batch, mapped, [], [], seconds)\n",
        "        written = _written(batch, mapped, [], [], seconds)\n",
        f"{_UNIT_WRITER}::test_a_commit_without_an_answer_is_found_out",
    ),
    Defect(
        "a dead letter is lost between the batch and the table",
        _WRITER,
        "                self._sink.letters.keep(letters)\n",
        "                self._sink.letters.keep(letters[:-1])\n",
        "tests/property/test_writer.py::test_exactly_the_bad_records_leave",
    ),
    Defect(
        "dead letters are kept in a transaction of their own, after that of the rows",
        _WRITER,
        "                self._sink.letters.keep(letters)\n"
        "            batch.outcome = written = _written(batch, mapped, failures, letters, seconds)\n"
        "            began = self._clock()\n"
        "            self._sink.commit(batch.next_offsets)\n",
        "                pass\n"
        "            batch.outcome = written = _written(batch, mapped, failures, letters, seconds)\n"
        "            began = self._clock()\n"
        "            self._sink.commit(batch.next_offsets)\n"
        "            self._sink.begin({k: Fence(f.epoch, batch.next_offsets[k]) for k, f in fences.items()})\n"
        "            self._sink.letters.keep(letters)\n"
        "            self._sink.commit({})\n",
        f"{_UNIT_WRITER}::test_a_commit_without_an_answer_has_its_dead_letters_once",
    ),
    Defect(
        "isolation loses its patience, and nobody hears of it",
        _WRITER,
        "            self._judge(batch, failures, isolated.finished)\n",
        "            self._judge(batch, failures, True)\n",
        "tests/unit/test_writer_patience.py",
    ),
    Defect(
        "dead letters are marked as published when they are handed over",
        _WRITER,
        "        self._outbox.send(self._sink.letters.pending(partitions, _LOT))\n",
        "        pending = self._sink.letters.pending(partitions, _LOT)\n"
        "        self._outbox.send(pending)\n"
        "        self._sink.letters.published([letter.coordinates for letter in pending])\n",
        f"{_PUBLISHING}::test_only_what_the_topic_confirmed_is_marked",
        quick=True,
    ),
    Defect(
        "a refusal of the dead-letter topic counts as delivered",
        _WRITER,
        "        delivered = [receipt for receipt in receipts if receipt.error is None]\n",
        "        delivered = receipts\n",
        f"{_PUBLISHING}::test_what_the_topic_refuses_stays_pending",
    ),
    Defect(
        "without a table, an error of the dead-letter topic is swallowed",
        _WRITER,
        '                    raise UnavailableError(f"dead letters cannot be published: {receipt.error}")\n',
        "                    pass\n",
        f"{_PUBLISHING}::test_without_a_table_a_batch_is_not_done_while_the_topic_refuses",
    ),
    Defect(
        "without a table, offsets go on past a dead letter that is not confirmed",
        _WRITER,
        "            self._outbox.wait(1.0)\n            for receipt",
        "            return\n            for receipt",
        f"{_PUBLISHING}::test_without_a_table_a_batch_is_done_when_every_letter_is_confirmed",
    ),
    Defect(
        "the next offset is that of the last record",
        _BATCH,
        "            batch.next_offsets[key] = self._next[key] = message.offset() + 1\n",
        "            batch.next_offsets[key] = self._next[key] = message.offset()\n",
        "tests/unit/test_batch.py::test_a_batch_knows_where_it_starts_and_the_next_offset_of_each_partition",
        quick=True,
    ),
    Defect(
        "a batch that is cut forgets that it may have been committed",
        _BATCH,
        "        batch.attempted, batch.skipped = self.attempted, self.skipped\n",
        "        batch.skipped = self.skipped\n",
        f"{_UNIT_WRITER}::test_after_the_end_of_a_partition_what_was_committed_counts_as_duplicate",
    ),
    Defect(
        "a step back of the client is taken",
        _BATCH,
        "offset >= ends.get(key, self._next[key]):",
        "offset >= self._next[key]:",
        "tests/property/test_batch.py::test_a_step_back_is_never_taken",
    ),
    Defect(
        "the breaker never opens",
        _BREAKER,
        "        if longest > self._max_consecutive or not finished:\n",
        "        if longest > self._max_consecutive * 1000:\n",
        "tests/unit/test_breaker.py",
        quick=True,
    ),
    Defect(
        "the breaker forgets failures between batches",
        _BREAKER,
        "        *_, self._in_a_row = _runs(count, failed, self._in_a_row)\n",
        "        self._in_a_row = 0\n",
        "tests/unit/test_breaker.py::test_too_many_in_a_row_open_it_across_batches",
    ),
    Defect(
        "the share of failures is not looked at",
        _BREAKER,
        "        if seen >= WINDOW and bad > self._max_ratio * seen:\n",
        "        if False:\n",
        "tests/unit/test_breaker.py::test_too_large_a_share_opens_it_but_not_before_a_thousand_records",
    ),
    Defect(
        "after a hold everything is tried at once, without a probe",
        _BREAKER,
        "            self._mode = _Mode.PROBING\n",
        "            self._mode = _Mode.ACCEPTING\n",
        "tests/unit/test_breaker.py::test_a_good_probe_closes_it_and_a_bad_one_does_not",
    ),
    Defect(
        "an integer beyond its column is wrapped: ranges are not checked",
        _CONVERSION,
        "            array(size, values)  # half the time of min and max\n",
        "            pass\n",
        "tests/unit/sinks/test_conversion_bounds.py",
    ),
    Defect(
        "text with NUL is let through",
        _CONVERSION,
        '    if "\\0" in joined:\n',
        "    if False:\n",
        "tests/unit/sinks/test_conversion.py::test_what_would_be_lost_is_refused",
    ),
    Defect(
        "a whole number is made a float that is another number",
        _CONVERSION,
        "    if kind is Kind.FLOAT and isinstance(value, int) and int(converted) != value:\n",
        "    if False:\n",
        "tests/unit/sinks/test_conversion.py::test_what_would_be_lost_is_refused",
    ),
    Defect(
        "a tombstone is taken for a record like any other",
        "consumer/mapping/fields.py",
        '        if self._rules.on_null == "reject":\n',
        '        if self._rules.on_null == "never":\n',
        "tests/unit/mapping/test_tombstones.py",
    ),
    Defect(
        "unknown fields are dropped though they are to be refused",
        "consumer/mapping/fields.py",
        '        if self._rules.unknown == "reject":\n',
        '        if self._rules.unknown == "never":\n',
        "tests/unit/mapping/test_fields.py::test_unknown_fields_are_refused_or_kept_as_configured",
    ),
    Defect(
        "of a record that fails for one table, rows get into another",
        "consumer/mapping/topics.py",
        "            rows = [_without(table, failures) for table in rows]\n",
        "            pass\n",
        "tests/unit/mapping/test_topics.py::test_a_record_that_fails_for_one_table_has_rows_in_none",
    ),
    Defect(
        "Avro: bytes after the value are ignored",
        "consumer/decode/avro_code.py",
        'self._line(2, "if p != len(data): ended_wrong(p, len(data))")',
        'self._line(2, "if p > len(data): ended_wrong(p, len(data))")',
        "tests/unit/decode/test_avro.py::test_bytes_that_no_writer_makes_are_refused",
    ),
    Defect(
        "Avro: an int of more than 32 bits is taken",
        "consumer/decode/avro_code.py",
        '                if part.kind == "int":\n',
        '                if part.kind == "never":\n',
        "tests/unit/decode/test_avro.py::test_bytes_that_no_writer_makes_are_refused",
    ),
    Defect(
        "Avro: an unknown schema id is read with the first schema there is",
        _IDS,
        "self._schemas.get(number) or f",
        "self._schemas.get(number) or self._schemas[min(self._schemas)] or f",
        "tests/unit/decode/test_avro.py::test_an_unknown_id_is_named",
    ),
    Defect(
        "JSON: of a batch that fails, the records after the first bad one are lost",
        "consumer/mapping/fields.py",
        "        bad = {failure.ordinal for failure in failures}\n",
        "        bad = set(range(failures[0].ordinal, ordinals[-1] + 1))\n",
        "tests/unit/mapping/test_fields.py::test_bad_records_are_found_among_good_ones",
    ),
    Defect(
        "SQLite: a claim does not raise the epoch",
        f"{_SQLITE}/offsets.py",
        "do update set owner_epoch = o.owner_epoch + 1,",
        "do update set owner_epoch = o.owner_epoch,",
        f"{_SINK}::test_a_later_claim_fences_the_earlier",
    ),
    Defect(
        "SQLite: nobody compares fences",
        f"{_SQLITE}/offsets.py",
        "        return {partition for partition, fence in fences.items() if stored.get(partition) != fence}\n",
        "        return {partition for partition in fences if partition not in stored}\n",
        f"{_SINK}::test_fencing_names_exactly_the_partitions_that_differ",
    ),
    Defect(
        "SQLite: what a refused try has written stays",
        f"{_SQLITE}/__init__.py",
        '            connection.execute("rollback to microbatch")\n',
        "            pass\n",
        f"{_SINK}::test_apply_is_all_or_nothing_over_tables",
    ),
    Defect(
        "SQLite: deferred constraints are left to COMMIT",
        f"{_SQLITE}/__init__.py",
        "            if breaks_a_key(connection, table):\n                raise RejectedError",
        "            if False:\n                raise RejectedError",
        f"{_SINK}::test_a_deferred_constraint_refuses_in_apply",
    ),
    Defect(
        "SQLite: a letter that was replayed or discarded is published again",
        f"{_SQLITE}/letters.py",
        "where {_ONE} and state = 'pending'\n",
        "where {_ONE}\n",
        f"{_LETTERS}::test_publishing_never_brings_back_what_is_done_with",
    ),
    Defect(
        "SQLite: a busy file is taken for a bad record",
        f"{_SQLITE}/codes.py",
        'Rule("SQLITE_BUSY", Verdict.RETRY,',
        'Rule("SQLITE_BUSY", Verdict.REJECT,',
        "tests/unit/sinks/test_sqlite_codes.py::test_verdicts",
    ),
    Defect(
        "halving loses the last record of a range",
        "consumer/sinks/isolation.py",
        "            apply(cut(rows, ordinals[start], ordinals[end - 1] + 1))\n",
        "            apply(cut(rows, ordinals[start], ordinals[end - 1] + (end - start == 1)))\n",
        f"{_ISOLATION}::test_exactly_the_bad_ones_are_found",
    ),
    Defect(
        "halving ignores patience",
        "consumer/sinks/isolation.py",
        "            if patience is not None and in_a_row > patience:\n",
        "            if False:\n",
        f"{_ISOLATION}::test_it_gives_up_when_too_many_in_a_row_are_at_fault",
    ),
    Defect(
        "records of a partition that is taken away are not told as released",
        _PIPELINE,
        "released = self._collector.drop(partitions) + self._ahead.release(partitions)\n",
        "self._collector.drop(partitions)\n        released = self._ahead.release(partitions)\n",
        f"{_ACCOUNTING}::test_records_of_partitions_that_leave_are_released",
    ),
    Defect(
        "a client that goes back to the beginning is left there",
        _PIPELINE,
        "        if back := self._collector.stepped_back:\n            self._seek(back)\n",
        "",
        f"{_GREAT}::test_a_client_that_goes_back_is_sent_on_at_once",
        quick=True,
    ),
    Defect(
        "values bound for a SQLite table that has changed are written",
        f"{_SQLITE}/write.py",
        "isinstance(rows.prepared, Bound) and rows.prepared.by is self",
        "isinstance(rows.prepared, Bound)",
        "tests/contract/test_sqlite.py::test_what_was_bound_for_a_table_that_has_changed_is_bound_anew",
        quick=True,
    ),
    Defect(
        "rows that were not sent, because the server said something, are lost",
        "consumer/sinks/postgres/copying.py",
        "                script.abandon(_ENDED)\n                return\n",
        "                break\n",
        "tests/contract/test_postgres_transactions.py::test_a_notice_while_rows_are_sent_costs_no_row",
    ),
    Defect(
        "a client that is stuck is kept",
        "consumer/deadletter/__init__.py",
        "        if self._stuck and not self._flights:\n            self._retire(0)\n",
        "",
        "tests/integration/test_deadletter.py::test_after_the_time_that_is_allowed_there_is_an_error",
    ),
    Defect(
        "what was refused together is refused",
        "consumer/deadletter/__init__.py",
        "        if not flight.alone:\n            flight.alone = True\n        elif ",
        "        if ",
        "tests/integration/test_deadletter.py::test_records_that_were_refused_together_are_sent_each_alone",
    ),
    Defect(
        "a turn never ends",
        "consumer/turns.py",
        "            if self._over(ends):\n",
        "            if self._over(ends) and not self._turn:\n",
        "tests/unit/test_turns.py::test_a_partition_that_is_hardly_read_while_others_are_is_read_alone_in_turns",
        quick=True,
    ),
    Defect(
        "a hold goes on without a probe",
        _PIPELINE,
        "            self._writer.breaker.probe()\n",
        "            self._writer.breaker.accept()\n",
        f"{_GREAT}::test_too_many_bad_records_hold_until_somebody_says_go_on",
    ),
    Defect(
        "pending dead letters never hold",
        _PIPELINE,
        "        if self._pending > self._tolerance.max_pending:\n",
        "        if False:\n",
        f"{_GREAT}::test_while_the_dead_letter_topic_is_away_writing_goes_on_until_so_many_are_pending",
    ),
    Defect(
        "whoever takes a partition over leaves its pending dead letters alone",
        _PIPELINE,
        "            self._publish_at = now  # whoever owns a partition publishes what is pending of it\n",
        "            pass\n",
        f"{_ACCOUNTING}::test_pending_letters_of_another_life_are_published",
    ),
    Defect(
        "a gap is skipped",
        _PIPELINE,
        "            if reason := gap(claim, state):\n",
        '            if reason := "":\n',
        "tests/property/test_gaps.py",
    ),
    Defect(
        "a replay does not look whether a letter is still open",
        "consumer/dlq/replay.py",
        "            kept = [place for place, letter in enumerate(letters) if letter.coordinates in held]\n",
        "            kept = list(range(len(letters)))\n",
        "tests/unit/dlq/test_replay.py::test_a_commit_without_an_answer_is_found_out",
    ),
    Defect(
        "a replay leaves the letters as they are",
        "consumer/dlq/replay.py",
        "            self._sink.letters.settle(done, evidence_again(letters, errors, self._name()))\n",
        "            self._sink.letters.settle([], evidence_again(letters, errors, self._name()))\n",
        "tests/unit/dlq/test_replay.py::test_a_second_replay_does_nothing",
    ),
    Defect(
        "a dry run writes",
        "consumer/dlq/replay.py",
        "        with transaction(self._sink, keep=not self._dry_run):\n",
        "        with transaction(self._sink):\n",
        "tests/unit/dlq/test_replay.py::test_a_dry_run_says_what_would_be_and_leaves_no_trace",
    ),
    Defect(
        "PostgreSQL: a killed session is taken for a bad record",
        f"{_POSTGRES}/sqlstate.py",
        'Rule("57P01", Verdict.RECONNECT,',
        'Rule("57P01", Verdict.RECORD,',
        "tests/unit/sinks/test_sqlstate.py::test_verdicts",
    ),
    Defect(
        "PostgreSQL: a deadlock stops the daemon",
        f"{_POSTGRES}/sqlstate.py",
        'Rule("40", Verdict.RETRY,',
        'Rule("40", Verdict.SETUP,',
        "tests/unit/sinks/test_sqlstate.py::test_verdicts",
    ),
    Defect(
        "PostgreSQL: a missing table is taken for a bad record",
        f"{_POSTGRES}/sqlstate.py",
        'Rule("42P01", Verdict.SETUP,',
        'Rule("42P01", Verdict.RECORD,',
        "tests/unit/sinks/test_sqlstate.py::test_verdicts",
    ),
    Defect(
        "PostgreSQL: a claim does not raise the epoch",
        f"{_POSTGRES}/offsets.py",
        "  set owner_epoch = o.owner_epoch + 1, updated_at",
        "  set owner_epoch = o.owner_epoch, updated_at",
        f"{_SINK}::test_a_later_claim_fences_the_earlier",
    ),
    Defect(
        "PostgreSQL: what is emptied or published was done with already",
        f"{_POSTGRES}/letters.py",
        "self._given(coordinates, [State.PENDING])",
        "self._given(coordinates, list(State))",
        f"{_LETTERS}::test_publishing_never_brings_back_what_is_done_with",
    ),
    Defect(
        "PostgreSQL: two replays take the same letters",
        f"{_POSTGRES}/letters.py",
        "order by {_ORDER} for update of d\n",
        "order by {_ORDER}\n",
        f"{_TRANSACTIONS}::test_a_replay_waits_for_what_another_has_locked",
    ),
    Defect(
        "PostgreSQL: ROLLBACK as the answer to COMMIT goes for success",
        f"{_POSTGRES}/__init__.py",
        '        if (tag := answer[1]) != "COMMIT":\n',
        '        if (tag := answer[1]) not in ("COMMIT", "ROLLBACK"):\n',
        f"{_TRANSACTIONS}::test_a_commit_that_is_answered_with_rollback_is_none",
    ),
    Defect(
        "PostgreSQL: deferred constraints are left to COMMIT",
        f"{_POSTGRES}/tables.py",
        "        return self.defers or any(relation.deferrable for relation in self._relations.values())\n",
        "        return False\n",
        f"{_SINK}::test_a_deferred_constraint_refuses_in_apply",
    ),
    Defect(
        "PostgreSQL: a refused try takes along what was written before it",
        f"{_POSTGRES}/tables.py",
        "        if self._applied:\n",
        "        if False:\n",
        f"{_ISOLATION}::test_what_was_applied_before_stays",
    ),
    Defect(
        "PostgreSQL: an integer beyond its column is wrapped by the encoder",
        "consumer/exact.py",
        "        found = Annotated[int, msgspec.Meta(ge=column.minimum, le=column.maximum)]\n",
        "        found = int\n",
        "tests/contract/test_postgres_types.py::test_values_outside_the_type_are_refused",
    ),
    Defect(
        "PostgreSQL: a lost connection is taken for a bad record",
        f"{_POSTGRES}/translation.py",
        "            if broken or _of_connection(error):\n",
        "            if False:\n",
        "tests/unit/sinks/test_sqlstate.py::test_an_error_without_a_state",
    ),
    Defect(
        "PostgreSQL: what a dying server says last is taken by its word",
        f"{_POSTGRES}/translation.py",
        "        rule = sqlstate.BROKEN if broken else self._rules.rule(state)\n",
        "        rule = self._rules.rule(state)\n",
        "tests/unit/sinks/test_sqlstate.py::test_every_listed_state_becomes_its_instruction",
    ),
    Defect(
        "PostgreSQL: who is named is at fault, whatever refused it",
        f"{_POSTGRES}/translation.py",
        'return told is not None and (bool(told["column"]) or (not acts and error.diag.source_function in _CHECKING))',
        "return told is not None",
        "tests/contract/test_postgres_conviction.py",
    ),
    Defect(
        "PostgreSQL: two rows of one key stop the daemon where only the server holds their keys equal",
        f"{_POSTGRES}/tables.py",
        "not part.plan.numbered and error.sqlstate == _SAME_KEY:",
        'not part.plan.numbered and error.sqlstate == "":',
        f"{_UPSERTS}::test_the_last_row_wins_also_of_keys_that_only_the_server_holds_equal",
    ),
    Defect(
        "PostgreSQL: rows are upserted again with those that come after them into the same stage",
        f"{_POSTGRES}/tables.py",
        "self._part(plan if quick.create in self._stages else quick, table_rows)",
        "self._part(quick, table_rows)",
        f"{_UPSERTS}::test_a_row_is_written_once_where_two_groups_have_its_columns",
    ),
    Defect(
        "PostgreSQL: a range is folded together with what comes before it, and was refused",
        f"{_POSTGRES}/staged.py",
        """_RANGE = '"#row" >= "#block"."#low" and "#row" < "#block"."#high"'\n""",
        """_RANGE = '"#row" < "#block"."#high"'\n""",
        "tests/contract/test_isolation_sums.py",
    ),
    Defect(
        "PostgreSQL: the block loses the last record of a range",
        f"{_POSTGRES}/staged.py",
        """yield f'"#high" := {self.number("#next")} * {self.width};'""",
        """yield f'"#high" := {self.first} + ("#next" - ("#next" - "#at") / 9)::int8 * {self.width};'""",
        f"{_ISOLATION}::test_exactly_the_bad_ones_are_found",
    ),
    Defect(
        "PostgreSQL: who was guessed to be at fault is, for whatever reason",
        f"{_POSTGRES}/block.py",
        'if "#last" <> "#at" or "#state" || "#constraint" <> all("#causes") then',
        'if "#last" <> "#at" then',
        "tests/integration/test_postgres_isolation.py::test_the_first_of_a_key_stays_whatever_is_guessed_of_it",
    ),
    Defect(
        "PostgreSQL: who was guessed to be at fault is, though it got in",
        f"{_POSTGRES}/block.py",
        """if "#last" <> "#at" or "#state" || "#constraint" <> all("#causes") then""",
        """if "#state" || "#constraint" <> all("#causes") then""",
        "tests/integration/test_postgres_isolation.py::test_who_was_guessed_to_be_at_fault_and_is_not_is_written_in_its_place",
    ),
    Defect(
        "PostgreSQL: a few at a time are not checked for what waits till the end",
        f"{_POSTGRES}/progress.py",
        "            {take};\n            {late}\n",
        "            {take};\n",
        _HINT,
    ),
    Defect(
        "PostgreSQL: a few that are refused together are left out together",
        f"{_POSTGRES}/progress.py",
        """            foreach "#record" in array "#lot" loop\n""",
        """            foreach "#record" in array "#lot"[2:] loop\n""",
        _HINT,
    ),
    Defect(
        "PostgreSQL: rows before a suspect count as written",
        f"{_POSTGRES}/progress.py",
        '"#inserted" between 0 and "#end" - "#at" - 1 then\n              "#far" := "#at" + "#inserted";',
        '"#inserted" < "#end" - "#at" then\n              "#far" := "#at" + "#inserted"; "#at" := "#far";',
        _HINT,
    ),
    Defect(
        "PostgreSQL: rows count as proven to be refused that a trigger may mend",
        f"{_POSTGRES}/proof.py",
        "not exists (select from pg_trigger where",
        "not exists (select from pg_trigger where false and",
        "tests/integration/test_postgres_isolation.py::test_no_guess_decides",
    ),
    Defect(
        "PostgreSQL: a key that a child of the table has counts as taken",
        f"{_POSTGRES}/proof.py",
        "row(%s) is not null and exists (select from only %s t",
        "row(%s) is not null and exists (select from %s t",
        f"{_PROOF}::test_a_key_that_only_a_child_of_the_table_has_is_free",
    ),
    Defect(
        "PostgreSQL: what a policy hides counts as absent",
        f"{_POSTGRES}/proof.py",
        "    and not row_security_active(confrelid)\n",
        "",
        f"{_PROOF}::test_a_row_that_a_policy_hides_may_be_referred_to",
    ),
    Defect(
        "PostgreSQL: a CHECK is proven of what was sent, not of what is stored",
        f"{_POSTGRES}/proof.py",
        "if column.name not in inexact",
        "if True",
        f"{_PROOF}::test_a_value_counts_as_it_is_stored",
    ),
    Defect(
        "PostgreSQL: text that is only blanks too long counts as too long",
        f"{_POSTGRES}/doubt.py",
        """return f"rtrim({probe.value}::{probe.type_name}::text, ' ') <> rtrim({probe.value}::text, ' ')\"""",
        """return f"{probe.value}::{probe.type_name}::text <> {probe.value}::text\"""",
        f"{_PROOF}::test_too_long_is_what_more_than_blanks_are_cut_off_from",
    ),
    Defect(
        "PostgreSQL: what is proven is told as the last refusal was",
        f"{_POSTGRES}/block.py",
        """"#told" := "#tolds"["#proof"];""",
        """"#told" := "#evidence";""",
        f"{_PROOF}::test_what_is_proven_is_told_by_its_own_condition",
    ),
    Defect(
        "PostgreSQL: halving from the client loses the last record of a range",
        f"{_POSTGRES}/isolate.py",
        "    return [_slice(group, records[0], records[-1] + 1) for group in rows]\n",
        "    return [_slice(group, records[0], records[-1] + (len(records) == 1)) for group in rows]\n",
        f"{_ISOLATION}::test_exactly_the_bad_ones_are_found",
    ),
    Defect(
        "PostgreSQL: isolation ignores patience",
        f"{_POSTGRES}/isolate.py",
        "    if patience is None or len(found) <= patience:\n",
        "    if True:\n",
        f"{_ISOLATION}::test_it_gives_up_when_too_many_in_a_row_are_at_fault",
    ),
    Defect(
        "a dead letter counts as delivered when it is handed to the producer",
        _TOPIC,
        "        except BufferError:\n",
        "            self._decided.append((flight, None))\n        except BufferError:\n",
        "tests/integration/test_deadletter.py::test_nothing_is_delivered_before_the_broker_says_so",
    ),
    Defect(
        "an error of the delivery of a dead letter is swallowed",
        _TOPIC,
        "        if error is None:\n            return None\n        advice",
        "        if True:\n            return None\n        advice",
        "tests/integration/test_deadletter.py::test_a_refusal_is_a_receipt_with_an_error_and_nothing_else",
    ),
    Defect(
        "headers of an earlier failure stay beside the new ones",
        "consumer/deadletter/headers.py",
        "    headers = _without_ours(letter.headers, family)\n",
        "    headers = list(letter.headers or [])\n",
        "tests/unit/test_deadletter.py::test_headers_are_replaced_when_it_fails_again",
    ),
    Defect(
        "an answer for an assignment that ended meanwhile is taken",
        "consumer/assignment.py",
        "            if key in entries and entries[key].serial == serial and entries[key].phase is Phase.CLAIMING\n",
        "            if key in entries and entries[key].phase is Phase.CLAIMING\n",
        "tests/unit/test_assignment_serials.py",
    ),
    Defect(
        "records that wait to be tried again are not told as released",
        _PIPELINE,
        "        released += self._backlog.release(partitions)\n",
        "        self._backlog.release(partitions)\n",
        f"{_ACCOUNTING}::test_records_of_partitions_that_leave_are_released",
    ),
    Defect(
        "dead letters are published before COMMIT, and forgotten",
        _WRITER,
        "                self._sink.letters.keep(letters)\n",
        "                if self._outbox is not None:\n"
        "                    self._outbox.send(letters)\n"
        "                from dataclasses import replace\n\n"
        "                self._sink.letters.keep([replace(one, state=State.PUBLISHED) for one in letters])\n",
        f"{_PUBLISHING}::test_only_what_the_topic_confirmed_is_marked",
    ),
    Defect(
        "the second half of a batch that is split starts where the whole did",
        _BATCH,
        "(rest, self.starts | head.next_offsets)",
        "(rest, self.starts)",
        "tests/unit/test_batch.py::test_a_batch_can_be_split_and_its_parts_join",
    ),
    Defect(
        "parts that come again change their order",
        "consumer/backlog.py",
        "for part in reversed(list(parts)) if not part.empty)",
        "for part in list(parts) if not part.empty)",
        "tests/unit/test_backlog.py::test_parts_come_in_their_order_before_what_waits_already",
    ),
    Defect(
        "an old dead letter may overwrite a newer row",
        "consumer/dlq/tables.py",
        "        if table.version is None:\n",
        "        if False:\n",
        "tests/unit/dlq/test_replay.py::test_without_a_version_nothing_is_overwritten",
    ),
    Defect(
        "a letter that fails again keeps its old evidence",
        "consumer/dlq/replay.py",
        "            self._sink.letters.settle(done, evidence_again(letters, errors, self._name()))\n",
        "            self._sink.letters.settle(done, {})\n",
        "tests/unit/dlq/test_replay.py::test_one_that_fails_again_keeps_its_place_with_new_evidence",
    ),
    Defect(
        "a letter that the table has emptied is replayed as a tombstone",
        "consumer/dlq/replay.py",
        "            _require_payload(letter)\n",
        "",
        "tests/unit/dlq/test_replay.py::test_a_letter_whose_payload_is_gone_is_never_taken_for_a_tombstone",
    ),
    Defect(
        "an admin client that knows no broker any more is asked again and again",
        "consumer/cluster.py",
        "        if time.monotonic() - self._made_at >= _REPLACED_SECONDS:\n",
        "        if False:\n",
        "tests/contract/test_source.py::test_a_cluster_whose_client_was_told_of_no_broker_is_asked_by_another_one",
    ),
    Defect(
        "a client to which nothing comes back is waited for",
        _PIPELINE,
        "            self._source.renew()\n",
        "",
        "tests/property/test_pipeline.py::test_a_client_that_knows_no_broker_any_more_is_replaced",
    ),
    Defect(
        "a client that knows no broker any more is waited for",
        "consumer/presence.py",
        "            self._source.renew()\n",
        "",
        "tests/property/test_pipeline.py::test_a_client_that_knows_no_broker_any_more_is_replaced",
    ),
    Defect(
        "without an offset table, Kafka is told of a batch before it is written",
        _PIPELINE,
        "            self._job = _Job(self._begun(self._writer.write, batch), now, batch)\n",
        "            self._job = _Job(self._begun(self._writer.write, batch), now, batch)\n"
        "            self._source.commit(batch.next_offsets, wait=True)\n",
        "tests/property/test_at_least_once.py",
    ),
    Defect(
        "dead letters are in flight several at a time",
        _TOPIC,
        '    "max.in.flight": 1,\n',
        "",
        "tests/integration/test_deadletter.py::test_what_passes_by_itself_is_retried_without_a_word",
    ),
    Defect(
        "PostgreSQL: a fenced owner waits for the transaction of the new one",
        f"{_POSTGRES}/offsets.py",
        """  using (topic, partition, owner_epoch)
where group_id = {group} order""",
        """  using (topic, partition)
where group_id = {group} order""",
        f"{_TRANSACTIONS}::test_who_is_fenced_waits_for_nobody",
    ),
    Defect(
        "what is known of values is believed whatever the column takes",
        "consumer/table.py",
        " and _TAKES[self.kind](self, known)",
        "",
        f"{_SINK}::test_what_is_known_is_believed_only_as_far_as_the_column_takes_it",
    ),
    Defect(
        "an Avro int is taken for a smallint",
        "consumer/decode/avro_known.py",
        "minimum=-(2**31), maximum=2**31 - 1",
        "minimum=-(2**15), maximum=2**15 - 1",
        "tests/unit/decode/test_avro.py::test_what_is_known_are_the_bounds_of_the_schema",
        quick=True,
    ),
    Defect(
        "SQLite: after a reset, dead letters of records that are read again stay open",
        f"{_SQLITE}/__init__.py",
        "                letters.reread(connection, self._group, positions)\n",
        "",
        f"{_LETTERS}::test_a_reset_discards_what_is_read_again",
    ),
    Defect(
        "PostgreSQL: after a reset, dead letters of records that are read again stay open",
        f"{_POSTGRES}/__init__.py",
        "        letters.reread(connection, self._group, positions)\n",
        "",
        f"{_LETTERS}::test_a_reset_discards_what_is_read_again",
    ),
    Defect(
        "vectors are taken from payloads that go on behind their record",
        "consumer/decode/avro_vectors.py",
        "        _require((at == ends).all())\n",
        "",
        _DAMAGE,
    ),
    Defect(
        "vectors are read by the schema of the first record, whatever the others have",
        "consumer/decode/avro_vectors.py",
        "        _require((found == np.frombuffer(frame, np.uint8)).all())\n",
        "",
        "tests/property/test_vectors.py::test_a_frame_that_differs_is_not_passed_over",
    ),
    Defect(
        "whole numbers of a vector are not held against the bounds of their column",
        f"{_POSTGRES}/binary.py",
        "column.kind in (Kind.INTEGER, Kind.DECIMAL) and _within(column, vector)",
        "column.kind in (Kind.INTEGER, Kind.DECIMAL)",
        "tests/contract/test_postgres_vectors.py::test_a_number_outside_its_column_is_refused",
    ),
    Defect(
        "times of a vector are counted from another year than the server's",
        f"{_POSTGRES}/binary.py",
        "_BEGIN = datetime.datetime(2000, 1, 1)",
        "_BEGIN = datetime.datetime(2001, 1, 1)",
        _ALIKE,
    ),
    Defect(
        "Python values of a vector are naive where they are aware",
        "consumer/vector.py",
        "tzinfo=datetime.UTC)",
        "tzinfo=None)",
        _VALUES,
    ),
    Defect(
        "values of a vector move up into the places of its nulls",
        "consumer/vector.py",
        "zip(places.tolist(), _all_values(_at(vector, places)), strict=True)",
        "enumerate(_all_values(_at(vector, places)))",
        _VALUES,
    ),
    Defect(
        "a transform's rows are taken when its record is through",
        "consumer/mapping/transform.py",
        "isinstance(made, _ROWS) else made)]",
        "isinstance(made, _ROWS) else list(made))]",
        "tests/unit/mapping/test_transform.py::test_a_row_is_what_it_was_when_it_was_given",
    ),
    Defect(
        "a transform's dict is taken when its batch is through",
        "consumer/mapping/transform.py",
        "tuple(found), tuple(found.values()), ordinal",
        "tuple(found), found.values(), ordinal",
        "tests/unit/mapping/test_transform.py::test_a_dict_that_is_changed_for_the_next_record_is_the_row_that_it_was",
    ),
    Defect(
        "text of a vector loses NUL at its end",
        "consumer/vector.py",
        " and octets[:, -1].all()",
        "",
        "tests/property/test_vectors.py::test_text_is_what_it_was",
    ),
    Defect(
        "a plan keeps what it has tried",
        "consumer/preview/trial.py",
        "transaction(sink, keep=False)",
        "transaction(sink)",
        "tests/unit/preview/test_trial.py::test_each_record_is_counted_once",
        quick=True,
    ),
    Defect(
        "a refusal of a row that the group wrote itself is taken for a fault",
        "consumer/preview/trial.py",
        "found.next_offsets.get((message.topic(), message.partition()), -1)",
        "-1",
        "tests/unit/preview/test_trial.py::test_keys_that_the_group_wrote_itself_are_no_fault",
        quick=True,
    ),
    Defect(
        "the log is not spared what repeats",
        "consumer/logs.py",
        "        return suppressed is not None\n",
        "        return True\n",
        "tests/unit/test_logs.py::test_repeats_are_counted_in_the_next_line",
        quick=True,
    ),
    Defect(
        "what the server says of a value is told, where the user overrules what it means",
        f"{_POSTGRES}/translation.py",
        "_said(error, state)",
        "error.diag.message_primary",
        "tests/integration/test_canaries.py::test_a_refusal_that_the_settings_overrule_is_told_without_its_text",
    ),
    Defect(
        "a job takes records beyond its goal",
        "consumer/goal.py",
        "kept = [m for m in messages if m.offset() < self.targets.get((m.topic(), m.partition()), 0)]",
        "kept = list(messages)",
        f"{_GOAL}::test_records_at_and_beyond_their_target_are_left_alone",
        quick=True,
    ),
    Defect(
        "a job passes last offsets while records before them are not written",
        "consumer/goal.py",
        "if position < target and read_to(key) == position:",
        "if position < target:",
        f"{_GOAL}::test_last_offsets_without_records_are_passed_when_all_before_them_is_written",
        quick=True,
    ),
    Defect(
        "an end that was told before a claim is believed after it",
        "consumer/goal.py",
        "        self._read -= positions.keys()\n",
        "",
        f"{_GOAL}::test_an_end_told_before_a_claim_means_nothing_after_it",
        quick=True,
    ),
    Defect(
        "a job is done when what flows here is",
        "consumer/goal.py",
        "        return not left\n",
        "        return not [key for key in left if key in flowing]\n",
        f"{_JOBS}::test_what_a_vanished_member_still_has_is_waited_for",
    ),
    Defect(
        "the last offsets of a job that hold no record are not stored",
        _WRITER,
        "        if batch.empty:\n",
        "        if not batch.messages:\n",
        f"{_JOBS}::test_a_job_moves_exactly_what_was_there",
    ),
    Defect(
        "the batch that is mapped ahead keeps the records of partitions that have left",
        "consumer/ahead.py",
        "batch = self._batch.without(self._gone) if self._gone else self._batch",
        "batch = self._batch",
        "tests/unit/test_ahead.py::test_records_of_partitions_that_leave_meanwhile_are_counted_once_and_not_written",
        quick=True,
    ),
    Defect(
        "as many records are asked for as a batch takes before anybody knows how large they are",
        _BATCH,
        "return max(1, min(records, _UNSEEN))",
        "return max(1, records)",
        "tests/unit/test_batch.py::test_few_records_are_asked_for_until_their_size_is_known",
        quick=True,
    ),
    Defect(
        "what was encoded for a table as it was is sent into the table as it is",
        f"{_POSTGRES}/copying.py",
        "return self.plan is plan and ",
        "return ",
        "tests/contract/test_postgres_vectors.py::test_what_was_encoded_for_a_table_that_has_changed_is_encoded_anew",
    ),
    Defect(
        "a signature does not cover the time",
        "consumer/notify/sending.py",
        'f"{number}.{seconds}.".encode() + body',
        'f"{number}.".encode() + body',
        "tests/unit/notify/test_sending.py::test_id_time_and_body_are_all_signed",
        quick=True,
    ),
    Defect(
        "an id that the registry does not know yet makes its records dead letters at once",
        _IDS,
        "now - since < self._unknown_after",
        "now - since > self._unknown_after",
        f"{_UNIT_IDS}::test_an_unknown_id_is_waited_for_and_then_its_records_are_at_fault",
        quick=True,
    ),
    Defect(
        "an outage of the registry is remembered as an answer about the id",
        _IDS,
        "except DecodeError as error:",
        "except (DecodeError, UnavailableError) as error:",
        f"{_UNIT_IDS}::test_an_outage_is_passed_on_and_nothing_is_remembered_of_it",
    ),
    Defect(
        "unknown ids are waited for one after the other",
        _IDS,
        "                waiting.append(schema_id)\n",
        "                waiting.append(schema_id)\n                break\n",
        f"{_UNIT_IDS}::test_the_times_of_several_unknown_ids_run_together",
    ),
    Defect(
        "any 404 is the registry's word about the id",
        _REGISTRY,
        "if self._code(error) in _UNKNOWN:",
        "if self._code(error) not in (1,):",
        f"{_CLIENT}::test_an_answer_that_is_not_a_registrys_is_an_outage",
    ),
    Defect(
        "credentials follow a redirect",
        _REGISTRY,
        "            urllib.request.HTTPDefaultErrorHandler(),\n",
        "            urllib.request.HTTPDefaultErrorHandler(),\n            urllib.request.HTTPRedirectHandler(),\n",
        f"{_CLIENT}::test_credentials_are_never_taken_elsewhere",
    ),
    Defect(
        "the admin port takes what it can of the processor",
        _PORT,
        "max(_REST_SECONDS, -self._left / _SHARE)",
        "_REST_SECONDS",
        f"{_ADMIN}::test_a_flood_of_requests_gets_a_small_share_of_a_core_and_probes_an_answer",
    ),
    Defect(
        "who asks the admin port without reading is answered without end",
        _PORT,
        "if channel.total_outbufs_len:",
        "if False:",
        f"{_ADMIN}::test_who_asks_again_and_again_and_reads_nothing_is_cut_off",
    ),
)
