"""The parts of a block (see `block`) that need to know how far the server got with rows that it then refused.

It counts the rows that it has put into a table, those of a failed statement too (pgstat_relation.c,
AtEOSubXact_PgStat_Relations). So the next one is the suspect: those before it are written, and it is tried alone. Where
few lie between two suspects, a few are tried at a time.

It is a hint and no more: rows may go into partitions, triggers may add others, or refuse when all are in, and nothing
is counted where `track_counts` is off. Once a suspect is not refused, ranges are halved as without.
"""

from __future__ import annotations

from collections.abc import Mapping

from consumer.sinks.postgres.doubt import literal
from consumer.sinks.postgres.staged import Staged

_VARIABLES = """"#since" int := 0; "#hints" boolean := true; "#inserted" int8; "#lots" boolean := false;
  "#lot" {stage}[];"""
# A row is put in before a unique key, or an exclusion, refuses it.
_STOPPED = """"#inserted" := {inserted} - "#inserted" - case when "#state" in ('23505', '23P01') then 1 else 0 end;
            if "#hints" and "#marks" is null and "#inserted" between 0 and "#end" - "#at" - 1 then
              "#far" := "#at" + "#inserted";
            end if;"""
_ALONE = """if "#far" = "#start" then
        "#hints" := cardinality("#refused") > "#before";
        "#size" := ("#size" + "#far" - "#since") / 2; "#since" := "#at";
        {thin}
      else"""
_THIN = """if "#far" >= 0 and "#size" < {dense} then
          "#dense" := true; "#lots" := true; "#size" := 64; "#far" := -1;
        end if;"""
_LOTS = """if "#lots" then
        {loop}
          begin
            {take};
            {late}
            "#at" := "#at" + cardinality("#lot");
          exception when assert_failure or others then
            foreach "#record" in array "#lot" loop
              {one}
              "#at" := "#at" + 1;
              {give_up}
            end loop;
          end;
          {give_up}
        end loop;
      else"""
# A few at a time are quicker, unless one of so many is refused.
_FEW = """"#lots" := cardinality("#refused") - "#before" < "#size" / 7; "#since" := "#at";"""
_PARTS = ("progress", "starts", "stopped", "alone", "alone_end", "thin", "lots", "lots_end", "few")
NO_PROGRESS: Mapping[str, str] = {"suspect": "-1", **dict.fromkeys(_PARTS, "")}


def progress(group: Staged, suspect: int | None, parts: Mapping[str, object]) -> dict[str, str]:
    """The parts for this group, whose rows are all there are, one to a record: under the names of NO_PROGRESS.

    `suspect`: the number of the record that the server was at when it refused them all, if that is known.
    """
    inserted = f"pg_stat_get_xact_tuples_inserted({literal(group.trial.table)}::regclass)"
    thin = _THIN.format(**parts)
    return {
        "suspect": "-1" if suspect is None else str(suspect),
        "progress": _VARIABLES.format(stage=group.trial.raw.stage),
        "starts": f'"#inserted" := {inserted};',
        "stopped": _STOPPED.format(inserted=inserted),
        "alone": _ALONE.format(thin=thin),
        "alone_end": "end if;",
        "thin": thin,
        "lots": _LOTS.format_map({**parts, "loop": group.each_lot(), "take": group.trial.take('"#lot"')}),
        "lots_end": "end if;",
        "few": _FEW,
    }
