"""Proves which staged rows the table refuses, so that they need not be tried: only where the catalogue leaves no doubt.

A row is proven to be refused when a condition of these is met, asked after all rows of its range that are not doubted
(see `doubt`) are in. That is exact, because each condition is asked of the value that would be stored, by the server
itself, and its answer is the same whenever the transaction asks:

- The table is a plain one without triggers, which could change the row or others; nor policies, which hide rows.
- A column counts only if the staged value has its very type and the collation of that type.
- A CHECK counts if all of its functions are the server's own, and immutable: it reads no tables, and tells no time.
- A unique key counts if it is whole, immediate, of the server's own types and their usual order, so that `=` is what it
  is unique by. Whoever holds the key is in the table, and came before: any later row of the key is doubted as well.
- A foreign key counts if it refers to another plain table without policies, by types as above and their `=`: whose row
  is not seen there when it is asked, would have been refused at that moment.
- Text is too long if more than blanks would be cut off; `varchar` and `char` cut off blanks without an error.

The evidence is that of the first such row of a condition, which is tried alone nevertheless.
"""

from __future__ import annotations

from collections.abc import Iterable

from consumer.sinks.postgres.doubt import cut, literal
from consumer.sinks.postgres.plan import Probe, Trial

_OWN = 16384  # FirstNormalObjectId of access/transam.h: what users make has higher numbers
_BTREE = 403
_EXACT = """select from pg_attribute join pg_type y on y.oid = atttypid
      where attrelid = {table}::regclass and attnum = k.number and attcollation = typcollation and y.oid < {own}
        and attname = any({columns})"""
_CONDITIONS = """select "#conditions" || coalesce(array_agg(condition), array[]::text[]),
    "#told_by" || coalesce(array_agg(cause), array[]::text[]) into "#conditions", "#told_by" from (
  select format('not (%s)', pg_get_expr(conbin, conrelid)), "#state" || "#constraint"
  from pg_constraint c where conrelid = {table}::regclass and conname = "#constraint" and contype = 'c'
    and cardinality(conkey) > 0
    and not exists (select from unnest(conkey) as k (number) where not exists ({exact}))
    and not exists (
      select from pg_depend where classid = 'pg_constraint'::regclass and objid = c.oid
        and (refclassid, refobjid) <> ('pg_class'::regclass, conrelid))
    and not exists (
      select from regexp_matches(conbin::text, ':(?:op)?funcid (\\d+)', 'g') as f (id)
      left join pg_proc p on p.oid = f.id[1]::oid and p.oid < {own} and provolatile = 'i' where p.oid is null)
  union all
  select format('row(%s) is not null and exists (select from only %s t where %s offset 0)',
    string_agg(format('r.%I', attname), ', '), indrelid::regclass,
    string_agg(format('t.%1$I operator(pg_catalog.=) r.%1$I', attname), ' and ')), "#state" || "#constraint"
  from pg_index join pg_class i on i.oid = indexrelid
  cross join unnest(indkey[0:indnkeyatts - 1], indclass[0:indnkeyatts - 1], indcollation[0:indnkeyatts - 1])
    as k (number, class, sorted)
  left join pg_attribute on attrelid = indrelid and attnum = k.number
  left join pg_type y on y.oid = atttypid
  where indrelid = {table}::regclass and i.relname = "#constraint" and indisunique and indimmediate and indisvalid
    and not indisexclusion and indexprs is null and indpred is null and i.relam = {btree}
  group by indexrelid, indrelid
  having bool_and(exists ({exact}) and k.sorted = typcollation and exists (
    select from pg_opclass where oid = k.class and opcdefault and oid < {own}))
  union all
  select format('%s and not exists (select from only %s t where %s offset 0)',
    string_agg(format('r.%I is not null', here.attname), ' and '), confrelid::regclass,
    string_agg(format('t.%I operator(pg_catalog.=) r.%I', there.attname, here.attname), ' and ')),
    "#state" || "#constraint"
  from pg_constraint c
  cross join unnest(conkey, confkey, conpfeqop) as k (number, key, operator)
  join pg_attribute here on here.attrelid = conrelid and here.attnum = k.number
  join pg_attribute there on there.attrelid = confrelid and there.attnum = k.key
  where conrelid = {table}::regclass and conname = "#constraint" and contype = 'f' and confrelid <> conrelid
    and not row_security_active(confrelid)
    and exists (select from pg_class where oid = confrelid and relkind = 'r')
  group by c.oid, confrelid
  having bool_and(exists ({exact}) and here.atttypid = there.atttypid and here.attcollation = there.attcollation
    and exists (
      select from pg_operator where oid = k.operator and oprname = '=' and oprleft = oprright and oid < {own}))
  union all
  select * from unnest({cuts}, {cut_causes}) where "#state" = '22001' and "#constraint" = ''
) as found (condition, cause)
where exists (
  select from pg_class t where oid = {table}::regclass and relkind = 'r' and not relispartition
    and not row_security_active(oid)
    and not exists (select from pg_trigger where tgrelid = t.oid and not tgisinternal))"""


def conditions(trial: Trial) -> str:
    """The statement of PL/pgSQL that adds what can be proven about #state and #constraint, which refused rows: to
    #conditions each condition, to #told_by the state, constraint and column that a refusal by it tells.
    """
    cuts = [probe for probe in trial.probes if probe.cuts and probe.type_name == probe.base and not _is_array(probe)]
    inexact = {probe.column for probe in trial.probes if probe.cuts or probe.type_name != probe.base}
    columns = _array(column.name for column in trial.raw.columns if column.name not in inexact)
    table = literal(trial.table)
    return _CONDITIONS.format(
        table=table,
        own=_OWN,
        btree=_BTREE,
        exact=_EXACT.format(table=table, own=_OWN, columns=columns),
        cuts=_array(map(cut, cuts)),
        cut_causes=_array(f"22001{probe.column}" for probe in cuts),
    )


def proven(trial: Trial, which: str, doubted: str) -> str:
    """The expression for a query that has a byte for each of these rows, in order: the number of the first condition
    that proves it refused, else 0; 0 as well where it is not `doubted`, by SQL. `which` as in Plan.
    """
    before = f"select string_agg(set_byte('\\x00'::bytea, 0, case when not ({doubted}) then 0 "
    after = f"""else 0 end), '' order by "#row") from (select "#row", {trial.values}
      from {trial.raw.stage} where {which}) r"""  # noqa: S608 (quoted)
    cases = """(select string_agg(format('when (%s) then %s ', condition, number), ' ' order by number)
      from unnest("#conditions") with ordinality as c (condition, number))"""
    return f"{literal(before)} || {cases} || {literal(after)}"


def _is_array(probe: Probe) -> bool:
    return probe.type_name.endswith("[]")


def _array(values: Iterable[str]) -> str:
    return f"array[{', '.join(map(literal, values))}]::text[]"
