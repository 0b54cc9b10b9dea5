"""What a block of PL/pgSQL (see `block`) does with one group of rows in a raw stage, as statements of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from consumer.sinks.postgres.doubt import literal
from consumer.sinks.postgres.plan import RECORD, Plan, Trial

_RANGE = '"#row" >= "#block"."#low" and "#row" < "#block"."#high"'
_LOT = 4  # twice as many are no quicker where one of ten is refused
_TURN = '"#turns"."#turn"'


@dataclass(frozen=True, slots=True)
class Staged:
    """One group of rows in the raw stage of `trial`: record number n has those from `first` + n * `width` on."""

    table: str
    trial: Trial
    first: int
    width: int

    def write(self, index: int, which: str = "true") -> Iterable[str]:
        """The records from #at up to #next, as far as their rows are of those; `index`: the group's."""
        staged = self.trial.staged
        yield f'"#group" := {index};'
        yield f'"#low" := {self.number("#at")} * {self.width};'
        yield f'"#high" := {self.number("#next")} * {self.width};'
        yield f"{self.trial.move(f'{_RANGE} and {which}')};"
        if not staged.stage:
            return
        if staged.rounds:
            yield f'"#rounds" := coalesce(({staged.count(_RANGE)}), 0);'
            yield '<<"#turns">> for "#turn" in 1.."#rounds" loop'
        yield from _merge(staged)
        if staged.rounds:
            yield "end loop;"

    def each_row(self, which: str = "true") -> str:
        """The head of a loop over the rows from #at up to #end, each as RECORD; for groups of one row to a record."""
        rows = f"{self._ahead()} and {which}"
        return f'for "{RECORD}" in select * from {self.trial.raw.stage} where {rows} order by "#row" loop'  # noqa: S608 (quoted)

    def each_lot(self) -> str:
        """The same, a few at a time, in the array #lot."""
        lots = f'select array_agg(s order by "#row") from {self.trial.raw.stage} s where {self._ahead()}'  # noqa: S608 (quoted)
        return f'for "#lot" in {lots} group by "#row" / {_LOT} order by min("#row") loop'

    def _ahead(self) -> str:
        return f'"#row" >= {self.number("#at")} and "#row" < {self.number("#end")}'

    def marked(self, marks: str = '"#block"."#marks"') -> str:
        """The byte of each row in `marks`, for such groups."""
        return f'get_byte({marks}, ("#row" - {self.first})::int)'

    def number(self, record: str) -> str:
        """Of the first row of the record whose number is in this variable."""
        return f'{self.first} + "#block"."{record}"::int8'


def variables(groups: Sequence[Staged]) -> Iterable[str]:
    """The declarations of those that `find_column` and `fit` need."""
    for i, group in enumerate(groups):
        for j, probe in enumerate(group.trial.probes):
            yield f'"#{i}_{j}" {probe.base};'


def find_column(groups: Sequence[Staged]) -> str:
    """Looks for the column whose value does not fit, which only COPY would have told: by assigning it to a variable."""
    lines = ['begin case "#group"']
    for i, group in enumerate(groups):
        lines.append(f"when {i} then")
        source = f"from {group.trial.raw.stage} where {_RANGE}"
        for j, probe in enumerate(group.trial.probes):
            lines.append(f'"#probed" := {literal(probe.column)};')
            lines.append(f'for "#{i}_{j}" in select {probe.value} {source} loop end loop;')
            if probe.type_name != probe.base:
                lines.append(f"perform {probe.value}::{probe.type_name} {source};")
    return "\n".join([*lines, 'end case; exception when others then "#column" := "#probed"; end;'])


def fit(trial: Trial) -> str:
    """The same for the row in RECORD, before it is written, which is the quickest way to be refused."""
    lines = []
    for j, probe in enumerate(trial.probes):
        value = f'"{RECORD}".{probe.value}'
        lines.append(f'"#probed" := {literal(probe.column)}; "#0_{j}" := {value};')
        if probe.type_name != probe.base:
            lines.append(f"perform {value}::{probe.type_name};")
    return "\n".join([*lines, """"#probed" := '';"""]) if lines else ""


def _merge(staged: Plan) -> Iterable[str]:
    for query in staged.queries(_RANGE, _TURN):
        yield f'"#locked" := ({query});'
    for change in staged.changes(_RANGE, _TURN):
        yield f"{change};"
