"""The SQL that folds staged rows into a table by key.

By key the last operation of a batch wins, or the sum; that is SQL, because the server alone knows which keys are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import sql

from consumer.table import Mode

# Names that no sane table has, because the stage holds the table's columns beside them.
ROW, DELETE, ROUND = sql.Identifier("#row"), sql.Identifier("#delete"), sql.Identifier("#round")
_ALL, _KEPT = sql.SQL("true"), sql.SQL("not {}").format(DELETE)


class Merge:
    """Builds statements over `staged`, the rows of this call; each is preceded by WITH and that definition.

    The table is `t` in all of them. Rows are locked in key order: without it instances deadlock all the time.
    """

    def __init__(
        self, table: sql.Composable, names: Sequence[str], key: Sequence[str], add: Sequence[str], version: str | None
    ) -> None:
        self._table = table
        self._names = [sql.Identifier(name) for name in names]
        self._key = [sql.Identifier(name) for name in key]
        self._rest = [sql.Identifier(name) for name in names if name not in key and name not in add]
        self._add = [sql.Identifier(name) for name in names if name in add]
        self._version = sql.Identifier(version) if version else None

    def insert(self) -> list[sql.Composed]:
        """As COPY would, for what COPY cannot write into."""
        return [
            self._format(
                "rows as (select * from staged order by {row}) insert into {t} ({names}) select {names} from rows"
            )
        ]

    def alone(self, values: sql.Composable, mode: Mode) -> str:
        """One row of these values into the table without a stage, as PL/pgSQL; for modes that delete nothing."""
        insert = self._format("insert into {t} as t ({names}) values ({values})", values=values).as_string()
        if mode is Mode.INSERT:
            return insert
        if mode is Mode.UPSERT or not self._changes:
            return f"{insert} {self._on_conflict().as_string()}"
        update = "update {t} t set {assign} from (select {values}) r ({names}) where {same_r}"
        conflict = "on conflict ({key}) do update set {assign}"
        first = self._format(update, assign=self._assign("r"), values=values, same_r=self._same("t", "r")).as_string()
        then = self._format(conflict, assign=self._assign("excluded")).as_string()
        return f"{first}; if not found then {insert} {then}; end if"

    def upsert(self) -> list[sql.Composed]:
        """The last row of each key, over the one that is there unless that has a newer version."""
        return [self._upsert(_ALL)]

    def upsert_each(self) -> list[sql.Composed]:
        """The same of rows that all have different keys. Raises 21000 if two have the same."""
        return [self._upsert(_ALL, self._format("last as (select * from staged)"))]

    def mixed(self) -> list[sql.Composed]:
        """Every key that was deleted goes, also where a row follows: nothing of the old row may be left in that one.

        With a version this holds only for rows of one round (see `rounds`).
        """
        return [self._delete(DELETE), self._upsert(_KEPT)]

    def rounds(self) -> sql.Composed:
        """Defines `numbered`, the rows of `every` with their round: how often their key had turned by then from being
        written to being deleted or back. A delete ends what counts of the versions before it, so that rows of one key
        cannot be folded across it.
        """
        return self._format(
            "numbered as (select *, sum(turn) over (partition by {key} order by {row}) as {round} from (select *, "
            "(lag({delete}) over (partition by {key} order by {row}) is distinct from {delete})::int as turn "
            "from every) e)"
        )

    def delete(self) -> list[sql.Composed]:
        """The rows of these keys, unless they have a newer version."""
        return [self._delete(_ALL)]

    def lock(self) -> sql.Composed:
        """The query to begin with where rows are deleted."""
        statement = (
            "{last} select count(*) from (select from {t} t join last l on {same_l} order by {t_key} for update of t) r"
        )
        return self._format(statement, last=self._last(), same_l=self._same("t", "l"))

    def increment(self) -> list[sql.Composed]:
        """Existing rows first, by UPDATE: the row that ON CONFLICT proposes for them would meet the table's checks."""
        if not self._changes:
            return [self._upsert(_ALL)]
        total = sql.SQL("sum({0}) as {0}")
        statement = """{last}, sums as (select {sums} from staged group by {key}),
delta as materialized (select {columns} from sums s join last l on {same_l}),
locked as materialized (select {t_key} from {t} t join delta d on {same} order by {t_key} for update of t),
changed as (update {t} t set {from_delta} from delta d join locked k on {same_k} where {same} returning {t_key})
insert into {t} as t ({names}) select {names} from delta d
where not exists (select from changed c where {same_c}) order by {key}
on conflict ({key}) do update set {from_excluded}"""
        return [
            self._format(
                statement,
                last=self._last(),
                sums=listed([*self._key, *(total.format(c) for c in self._add)]),
                columns=listed(
                    [sql.SQL("s.{}").format(c) for c in self._key + self._add]
                    + [sql.SQL("l.{}").format(c) for c in self._rest]
                ),
                same_l=self._same("s", "l"),
                same_k=self._same("k", "d"),
                same_c=self._same("c", "d"),
                from_delta=self._assign("d"),
                from_excluded=self._assign("excluded"),
            )
        ]

    @property
    def _changes(self) -> bool:
        """Whether a row has more than its key."""
        return bool(self._add or self._rest)

    def _assign(self, source: str) -> sql.Composed:
        """What an increment makes of an existing row."""
        added, replaced, new = (
            sql.SQL("{0} = coalesce(t.{0}, 0) + {1}.{0}"),
            sql.SQL("{0} = {1}.{0}"),
            sql.Identifier(source),
        )
        return listed([added.format(c, new) for c in self._add] + [replaced.format(c, new) for c in self._rest])

    def _last(self) -> sql.Composed:
        return self._format("last as ({rows})", rows=self._latest(_ALL))

    def _latest(self, which: sql.Composable) -> sql.Composed:
        """The last row of each key: of the highest version, if there is one; then by place."""
        version = sql.SQL("{} desc, ").format(self._version) if self._version else sql.SQL("")
        return self._format(
            "select distinct on ({key}) * from staged where {which} order by {key}, {version}{row} desc",
            which=which,
            version=version,
        )

    def _newer(self, new: str) -> sql.Composable:
        if self._version is None:
            return sql.SQL("true")
        return sql.SQL("(t.{0} is null or {1}.{0} >= t.{0})").format(self._version, sql.Identifier(new))

    def _upsert(self, which: sql.Composable, last: sql.Composable | None = None) -> sql.Composed:
        return self._format(
            "{last} insert into {t} as t ({names}) select {names} from last where {which} order by {key} {action}",
            last=last or self._last(),
            which=which,
            action=self._on_conflict(),
        )

    def _on_conflict(self) -> sql.Composed:
        action: sql.Composable = sql.SQL("nothing")
        if self._rest:
            sets = listed(sql.SQL("{0} = excluded.{0}").format(name) for name in self._rest)
            action = sql.SQL("update set {} where {}").format(sets, self._newer("excluded"))
        return self._format("on conflict ({key}) do {action}", action=action)

    def _delete(self, which: sql.Composable) -> sql.Composed:
        return self._format(
            "gone as ({rows}) delete from {t} t using gone l where {same_l} and {newer}",
            rows=self._latest(which),
            same_l=self._same("t", "l"),
            newer=self._newer("l"),
        )

    def _same(self, left: str, right: str) -> sql.Composed:
        equal = sql.SQL("{1}.{0} = {2}.{0}")
        pairs = [equal.format(name, sql.Identifier(left), sql.Identifier(right)) for name in self._key]
        return sql.SQL(" and ").join(pairs)

    def _format(self, statement: str, **parts: sql.Composable) -> sql.Composed:
        common = {
            "t": self._table,
            "names": listed(self._names),
            "key": listed(self._key),
            "t_key": listed(sql.SQL("t.{}").format(name) for name in self._key),
            "same": self._same("t", "d"),
            "row": ROW,
            "delete": DELETE,
            "round": ROUND,
        }
        return sql.SQL(statement).format(**(common | parts))


def listed(items: Iterable[sql.Composable]) -> sql.Composed:
    """The items with commas between them."""
    return sql.SQL(", ").join(list(items))
