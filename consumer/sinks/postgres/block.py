"""The block of PL/pgSQL that writes staged records in ranges, and finds those that are refused alone.

Everything in it but a guess (see `doubt`) is static, so that the server plans each statement once; what it found is
left in a setting of the transaction, because a block has no result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from consumer.errors import RejectedError
from consumer.sinks.postgres.doubt import condition, literal, marks
from consumer.sinks.postgres.progress import NO_PROGRESS, progress
from consumer.sinks.postgres.proof import conditions, proven
from consumer.sinks.postgres.staged import Staged, find_column, fit, variables
from consumer.sinks.postgres.translation import rejection

# Of the variables of PL/pgSQL some have names as columns may have them, `found`: in a statement, columns go first. Ours
# are named with their block there.
_BLOCK = """
#variable_conflict use_column
<<"#block">>
declare
  "#at" int := 0; "#start" int; "#next" int; "#end" int; "#size" int; "#in_a_row" int := 0; "#last" int := -1;
  "#before" int := 0; "#dense" boolean := false; "#far" int := {suspect}; {progress}
  "#group" int := 0; "#low" int8; "#high" int8; "#rounds" int; "#locked" int8; "#record" record; "#singly" boolean;
  "#indexed" boolean := false;
  "#state" text := {state}; "#constraint" text := {constraint}; "#known" text := ''; "#table" text; "#column" text;
  "#probed" text;
  "#refused" int[] := array[]::int[]; "#evidence" text := ''; "#told" text; "#why" text[] := array[]::text[];
  "#causes" text[] := array[]::text[]; "#doubt" text; "#doubts" text := ''; "#marks" bytea; "#wrong" boolean := false;
  "#conditions" text[] := array[]::text[]; "#told_by" text[] := array[]::text[]; "#proven" bytea; "#proof" int;
  "#tolds" text[] := array[]::text[]; "#whys" text[] := array[]::text[]; "#reasons" int := 0;
  {variables}
begin
  {learn}
  "#size" := case when "#marks" is not null then {count} when "#far" >= 0 then "#far"
    else greatest({count} / 2, {least}) end;
  {thin}
  while "#at" < {count} and {patient} loop
    "#start" := "#at"; "#before" := cardinality("#refused"); "#reasons" := cardinality("#why");
    "#singly" := "#dense" or "#at" = "#far";
    "#end" := case when "#at" = "#far" then "#at" + 1 when "#at" < "#far" then "#far"
      else least("#at" + "#size", {count}) end;
    "#next" := "#end";
    if not "#singly" then
      {starts}
      begin
        {groups}
        {late}
        {doubted}
        "#at" := "#end"; "#size" := case when "#end" = "#far" then "#size" else "#size" * 2 end;
      exception when assert_failure or others then
        if "#wrong" then
          "#causes" := null; "#marks" := null; "#wrong" := false; "#last" := -1; "#evidence" := '';
          "#at" := "#start"; "#refused" := "#refused"[:"#before"]; "#why" := "#why"[:"#reasons"];
        else
          get stacked diagnostics "#state" = returned_sqlstate, "#constraint" = constraint_name;
          {judge}
          "#doubt" := null;
          {learn}
          if "#doubt" is null then
            if not "#indexed" then
              {index}
              "#indexed" := true;
            end if;
            "#far" := -1;
            {stopped}
            if "#far" < 0 then
              "#size" := greatest(("#end" - "#at") / 2, {least}); "#singly" := "#end" - "#at" <= {least};
            end if;
          end if;
        end if;
      end;
    end if;
    if "#singly" then
      {lots}
      {loop}
        {one}
        "#at" := "#at" + 1;
        {give_up}
      end loop;
      {lots_end}
      {alone}
        "#dense" := cardinality("#refused") - "#before" > greatest(1, "#size" / {dense});
        {few}
        "#size" := case when "#dense" then least("#size" * 8, {most}) else {least} end;
      {alone_end}
    end if;
  end loop;
  perform set_config('microbatch.refused',
    '[[' || array_to_string("#refused", ',') || '],[' || array_to_string("#why", ',') || ']]', true);
end"""
_ONE = """begin
          {before}
          {single}
          {late}
        exception when assert_failure or others then
          get stacked diagnostics "#state" = returned_sqlstate, "#table" = table_name, "#column" = column_name,
            "#constraint" = constraint_name;
          {judge}
          {probe}
          "#told" := concat_ws(chr(1), "#group", "#state", "#table", "#column", "#constraint");
          {refused}
        end;"""
_PROBE = """if "#table" = '' and "#column" = '' and left("#state", 2) in ('22', '23') then
            {find}
          end if;"""
_REFUSED = """if "#told" <> "#evidence" then
            "#evidence" := "#told"; "#why" := array_append("#why", format('[%s,%s]', "#at", {why}));
          end if;
          "#refused" := array_append("#refused", "#at");
          {counted}
          "#last" := "#at";"""
_COUNTED = '"#in_a_row" := case when "#last" = "#at" - 1 then "#in_a_row" + 1 else 1 end;'
_WHY = 'jsonb_build_array("#group", "#state", "#table", "#column", "#constraint")'
_JUDGE = """if "#state" <> "#known" then
        if not {of_record} then
          raise;
        end if;
        "#known" := "#state";
      end if;"""
# Those who may be refused for a reason that was met before are marked, and left to the end of their range. That changes
# nothing as long as each of them is refused then, for such a reason; else it is undone, and never tried again. Of those
# that are proven to be refused, only the first is tried.
_LEARN = """if ("#constraint" <> '' or "#state" = '22001') and "#state" || "#constraint" <> all("#causes") then
            "#doubt" := {condition};
            if "#doubt" is not null then
              "#causes" := array_append("#causes", "#state" || "#constraint");
              "#doubts" := concat_ws(' or ', nullif("#doubts", ''), '(' || "#doubt" || ')');
              begin
                execute {marks} into "#marks";
                "#far" := -1;
                {conditions};
              exception when others then
                "#causes" := null; "#marks" := null; "#doubt" := null;
              end;
            end if;
          end if;"""
_DOUBTED = """if "#marks" is not null then
          "#proven" := null;
          if cardinality("#conditions") > 0 then
            begin
              execute {proven} into "#proven" using "#marks", {low}, {high};
            exception when others then
              "#wrong" := true;
              raise;
            end;
          end if;
          {loop}
            "#at" := "#record"."#row" - {first};
            "#proof" := coalesce(get_byte("#proven", "#at" - "#start"), 0);
            if "#whys"["#proof"] is not null then
              "#told" := "#tolds"["#proof"];
              {convicted}
            else
              {one}
              if "#last" <> "#at" or "#state" || "#constraint" <> all("#causes") then
                "#wrong" := true;
                raise 'one that was doubted is in';
              end if;
              if "#state" || "#constraint" || "#column" = "#told_by"["#proof"] then
                "#tolds"["#proof"] := "#told"; "#whys"["#proof"] := {why};
              end if;
            end if;
            {give_up}
          end loop;
        end if;"""
# As few records as are no longer halved, but tried one by one: where each is a plain row, that costs little.
_LEAST_ROWS, _LEAST = 16, 4
# Where one of so many is refused, or more, records are tried one by one, up to so many before that is asked again.
_DENSE, _MOST = 32, 4096
# Plans are made once, for tables that may be empty then, and for ranges of any length. Statements are not parsed twice,
# the first time only to check the block.
_SETTINGS = {
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "check_function_bodies": "off",
}
_READ = "select current_setting('microbatch.refused')"


def block(
    groups: Sequence[Staged],
    count: int,
    patience: int | None,
    of_record: tuple[list[str], list[str]],
    late: Iterable[str],
    cause: RejectedError | None = None,
    suspect: int | None = None,
) -> str:
    """The statements that try the `count` records of these groups; the last one's answer is for `refusals`.

    It ends early when more than `patience` in a row are refused. A refusal is by a state `of_record` (see Rules); any
    other error ends it as an error of its own. `late`: what judges a range that is written. `cause`: why all of them
    were refused; `suspect`: the number of the record that the server was at then.
    """
    first = groups[0]
    alone = first.trial.staged.alone if len(groups) == 1 and first.width == 1 else ""
    written = "\n".join(statement for i, group in enumerate(groups) for statement in group.write(i))
    judge = _JUDGE.format(of_record=_of_record(*of_record))
    probed = any(group.trial.probes for group in groups)
    parts = {
        "count": count,
        "state": literal((cause and cause.sqlstate) or ""),
        "constraint": literal((cause and cause.constraint) or ""),
        "least": _LEAST_ROWS if alone else _LEAST,
        "dense": _DENSE,
        "most": _MOST,
        **NO_PROGRESS,
        "variables": " ".join(variables(groups)),
        "groups": written,
        "late": " ".join(f"{statement};" for statement in late),
        "judge": judge,
        "index": " ".join(f"{group.trial.index};" for group in groups),
        "loop": first.each_row() if alone else 'while "#at" < "#end" loop',
        "single": f"{alone};" if alone else written,
        "before": fit(first.trial) if alone else '"#next" := "#at" + 1;',
        "probe": _PROBE.format(find='"#column" := "#probed";' if alone else find_column(groups)) if probed else "",
        "patient": "true" if patience is None else f'"#in_a_row" <= {patience}',
        "give_up": "" if patience is None else f'exit when "#in_a_row" > {patience};',
        "counted": "" if patience is None else _COUNTED,
        "learn": "",
        "doubted": "",
    }
    parts["one"] = _ONE.format(**parts, refused=_REFUSED.format(**parts, why=_WHY))
    if alone and not first.trial.staged.stage:
        parts |= _guessing(first, count, parts) | progress(first, suspect, parts)
    return "; ".join(
        [
            *(f"set local {name} = {value}" for name, value in _SETTINGS.items()),
            f"do {literal(_BLOCK.format(**parts))}",
            *(f"set local {name} to default" for name in _SETTINGS),
            *(group.trial.unindex for group in groups),
            _READ,
        ]
    )


def _guessing(group: Staged, count: int, parts: Mapping[str, object]) -> dict[str, str]:
    """The parts that set doubted rows of this group apart, and tell those of them that are proven to be refused."""
    which = f'"#row" >= {group.first} and "#row" < {group.first + count}'
    doubted = _DOUBTED.format(
        first=group.first,
        loop=group.each_row(f"{group.marked()} = 1"),
        one=parts["one"],
        give_up=parts["give_up"],
        low=group.number("#at"),
        high=group.number("#end"),
        proven=proven(group.trial, '"#row" >= $2 and "#row" < $3', f"{group.marked('$1')} = 1"),
        convicted=_REFUSED.format(counted=parts["counted"], why='"#whys"["#proof"]'),
        why=_WHY,
    )
    return {
        "groups": "\n".join(group.write(0, f"{group.marked()} is distinct from 1")),
        "learn": _LEARN.format(
            condition=condition(group.trial),
            marks=marks(group.trial, which, '"#doubts"'),
            conditions=conditions(group.trial),
        ),
        "doubted": doubted,
    }


def refusals(answer: str, groups: Sequence[Staged]) -> dict[int, RejectedError]:
    """What a block found: the errors by the number of the record. It tells why where that is not as before."""
    numbers, reasons = json.loads(answer)
    told = dict(reasons)
    found: dict[int, RejectedError] = {}
    for number in numbers:
        if number in told:
            group, state, table, column, constraint = told[number]
            error = rejection(state, table, column, constraint, groups[group].table)
        found[number] = error
    return found


def _of_record(states: list[str], others: list[str]) -> str:
    """Whether the state is of a record: by the rule of the state itself, else of its class."""
    return (
        f'("#state" = any({_array(states)}) or (left("#state", 2) = any({_array(states)})'
        f' and "#state" <> all({_array(others)})))'
    )


def _array(values: Iterable[str]) -> str:
    return f"{literal('{' + ','.join(values) + '}')}::text[]"
