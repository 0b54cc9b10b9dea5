"""Guesses which staged rows a constraint will refuse, so that they can be tried apart from all others.

It is only a guess, made by the server from its catalogue: `block` rejects nobody who is not refused alone, or proven to
be (see `proof`).
"""

from __future__ import annotations

from psycopg import sql

from consumer.sinks.postgres.plan import Probe, Trial

# Refused by a constraint on its own row (CHECK), for want of another row (a foreign key), or because of one (unique).
# Not for want of one in the same table: it may be in the same range. OFFSET 0 keeps the planner from reading the whole
# table into a hash.
_CONDITION = """(case when "#constraint" <> '' then coalesce(
  (select case contype when 'c' then format('not (%s)', pg_get_expr(conbin, conrelid)) else (
      select format('not exists (select from %s t where %s offset 0) and %s', confrelid::regclass,
        string_agg(format('t.%I = r.%I', there.attname, here.attname), ' and '),
        string_agg(format('r.%I is not null', here.attname), ' and '))
      from unnest(conkey, confkey) as k (here, there)
      join pg_attribute here on here.attrelid = conrelid and here.attnum = k.here
      join pg_attribute there on there.attrelid = confrelid and there.attnum = k.there) end
    from pg_constraint where conrelid = {table}::regclass and conname = "#constraint" and contype in ('c', 'f')
      and confrelid <> conrelid),
  (select format('%1$s and row(%2$s) is not null and (exists (select from %3$s t where %4$s and %1$s offset 0)'
        ' or row_number() over (partition by %2$s, %1$s order by "#row") > 1)',
        coalesce(pg_get_expr(indpred, indrelid), 'true'), string_agg(format('r.%I', attname), ', '), indrelid::regclass,
        string_agg(format('t.%1$I = r.%1$I', attname), ' and '))
    from pg_index join pg_class i on i.oid = indexrelid
    join pg_attribute on attrelid = indrelid and attnum = any(indkey[0:indnkeyatts - 1])
    where indrelid = {table}::regclass and relname = "#constraint" and indexprs is null
    group by indrelid, indpred))
  else {cut} end)"""


def condition(trial: Trial) -> str:
    """The expression of PL/pgSQL for a condition, as text, which rows to be doubted meet: null if nobody is.

    It asks for the #constraint that refused rows; where there is none, their text was too long (SQLSTATE 22001).
    """
    cuts = [cut(probe) for probe in trial.probes if probe.cuts]
    return _CONDITION.format(table=literal(trial.table), cut=literal(" or ".join(cuts)) if cuts else "null")


def cut(probe: Probe) -> str:
    """The condition that a cast to its type would cut off more than blanks of this value, or of an array's elements."""
    return f"rtrim({probe.value}::{probe.type_name}::text, ' ') <> rtrim({probe.value}::text, ' ')"


def marks(trial: Trial, which: str, met: str) -> str:
    """The expression for a query that has a byte for each of these rows, in order: 1 where it meets a condition.

    `which` as in Plan; `met`: the expression for the text of the condition.
    """
    rows = f'(select "#row", {trial.values} from {trial.raw.stage} where {which}) r'  # noqa: S608 (quoted)
    byte = r"case when m then '\x01'::bytea else '\x00' end"
    before = f"""select string_agg({byte}, '' order by "#row") from (select "#row", """  # noqa: S608 (constant)
    after = f" as m from {rows}) s"
    return f"{literal(before)} || {met} || {literal(after)}"


def literal(text: str) -> str:
    """The text as a constant of SQL."""
    return sql.Literal(text).as_string()
