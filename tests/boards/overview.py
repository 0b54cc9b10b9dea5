"""Is it well? What is wrong? What is the limit?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from tests.boards.parts import (
    GREEN,
    HERE,
    ORANGE,
    RED,
    TOPIC,
    YELLOW,
    Limit,
    lines,
    name,
    per_second,
    quantile,
    row,
    sentence,
    stat,
    timeline,
)
from tests.boards.parts import (
    board as new,
)

LATE_SECONDS, MANY_REBALANCES = 300, 10  # as the alerts have it
_LAG_SECONDS = name("consumer_lag_seconds", TOPIC)
_WRITE, _MAP, _ISOLATE = (
    "avg(sum by (instance) (" + per_second("stage_seconds_sum", f'stage="{stage}"') + "))"
    for stage in ("write", "map", "isolate")
)


def _first(*conditions: tuple[int, str]) -> str:
    """The number of the first condition that holds, or 0, where there is an instance at all."""
    parts = [f"(0 * ({condition}) + {number})" for number, condition in conditions]
    return "\nor ".join([*parts, f"0 * count({name('build_info')})"])


def _worst(metric: str, *labels: str, is_: str) -> str:
    """Something where one of the series is so."""
    return f"max({name(metric, *labels)} {is_})"


# A series that is new has not increased: its first value counts.
_LETTERS = "({0} unless {0} offset 10m) or increase({0}[10m])".format(name("records_dead_lettered_total", TOPIC))
_GIVEN = name("rebalances_total", 'kind="assigned"')
_STARTS = f"changes(process_start_time_seconds{{{HERE}}}[15m])"
STATE = _first(
    (12, f"max({_STARTS}) > 2"),
    (11, f"count(up{{{HERE}}} == 0)"),
    (10, _worst("unavailable", 'service="database"', is_="== 1")),
    (9, _worst("unavailable", 'service="registry"', is_="== 1")),
    (8, _worst("unavailable", 'service="kafka"', is_="== 1")),
    (7, _worst("breaker_open", is_="== 1")),
    (6, _worst("hold", 'reason="dead_letters_pending"', is_="== 1")),
    (5, _worst("partitions_paused", 'reason=~"held|fenced"', is_="> 0")),
    (4, f"max(sum by (instance) (increase({_GIVEN}[5m]))) > {MANY_REBALANCES}"),
    (3, f"max({_LAG_SECONDS}) > {LATE_SECONDS}"),
    (2, f"sum({_LETTERS}) > 0"),
    (1, _worst("state", 'state=~"starting|claiming|draining|paused"', is_="== 1")),
)
STATES = {
    12: ("An instance starts again and again", RED),
    11: ("An instance does not answer", RED),
    10: ("The database takes no writes", RED),
    9: ("The schema registry does not give a schema", RED),
    8: ("Kafka does not answer", RED),
    7: ("Held: too many records are at fault", RED),
    6: ("Held: dead letters wait for their topic", RED),
    5: ("Partitions are held: their offsets need a decision", RED),
    4: ("The group rebalances all the time", RED),
    3: ("It works, and is late", ORANGE),
    2: ("It works, and some records became dead letters", YELLOW),
    1: ("It starts, ends, claims, or is paused", YELLOW),
    0: ("All is well: records are written as they come", GREEN),
}
BOTTLENECK = _first(
    (4, f"max({_LAG_SECONDS}) < 10"),
    (3, f"({_WRITE} < 0.8 and {_MAP} < 0.8)"),
    (2, f"({_MAP} > {_WRITE})"),
    (1, f"{_WRITE} >= {_MAP}"),
)
BOTTLENECKS = {
    4: ("Nothing: it keeps up", GREEN),
    3: ("Kafka: the writer waits for records", YELLOW),
    2: ("Decoding and mapping", ORANGE),
    1: ("The database", ORANGE),
    0: ("Not known yet", YELLOW),
}


def board() -> Dashboard:
    """The first one to look at."""
    made = new(
        "microbatch-overview",
        "microbatch: overview",
        "Is it well, what is wrong, and what is the limit? Start here; the runbook says what to do.",
    )
    for part in (_well, _flow, _limit, _wrong, _ledger):
        made = part(made)
    return made


def _well(made: Dashboard) -> Dashboard:
    return (
        made.with_row(row("Is it well?"))
        .with_panel(
            sentence("State", "The worst of what is true now, of all instances chosen.", STATE, STATES, width=14)
        )
        .with_panel(
            sentence(
                "What is the limit?",
                "Where the writer's thread spends its time while there is a backlog. One batch at a time is mapped and "
                "written, so shares add up to 1 at most; if both are small, it waits for Kafka.",
                BOTTLENECK,
                BOTTLENECKS,
                width=10,
            )
        )
        .with_panel(
            stat(
                "Instances running",
                "Instances in the state `running`.",
                "sum(" + name("state", 'state="running"') + ")",
                "none",
                sparkline=False,
            )
        )
        .with_panel(
            stat(
                "Lag",
                "Records between what is committed and the end of the partitions.",
                f"sum({name('consumer_lag', TOPIC)})",
                "short",
            )
        )
        .with_panel(
            stat(
                "Late by",
                "Age of the last committed record of the partition that is furthest behind; 0 where nothing is left.",
                f"max({_LAG_SECONDS})",
                "s",
                Limit(60, YELLOW),
                Limit(LATE_SECONDS, RED),
            )
        )
        .with_panel(
            stat(
                "Written",
                "Records committed a second.",
                f"sum({per_second('records_written_total', TOPIC)})",
                "cps",
            )
        )
        .with_panel(
            stat(
                "Since the last commit",
                "Seconds since any instance committed a batch. It grows where no records come, too: look at the lag.",
                f"time() - max({name('last_success_timestamp_seconds')})",
                "s",
                sparkline=False,
            )
        )
        .with_panel(
            stat(
                "Dead letters waiting",
                "Dead letters that are kept in the table, and that their topic does not have yet.",
                f"sum({name('dead_letters_pending')})",
                "short",
                Limit(1, YELLOW),
                Limit(1000, RED),
            )
        )
    )


def _flow(made: Dashboard) -> Dashboard:
    return (
        made.with_row(row("Does it keep up?"))
        .with_panel(
            lines(
                "Lag in records",
                "Records between what is committed and the end, by topic. A straight rise: more comes than is written.",
                "short",
                (f"sum by (topic) ({name('consumer_lag', TOPIC)})", "{{topic}}"),
            )
        )
        .with_panel(
            lines(
                "Lag in seconds",
                "Age of the last committed record, the oldest partition of each topic. The line is where it pages.",
                "s",
                (f"max by (topic) ({_LAG_SECONDS})", "{{topic}}"),
                limits=(Limit(LATE_SECONDS, RED),),
            )
        )
        .with_panel(
            lines(
                "Throughput",
                "Records read and committed a second. Read but not committed for long: see what is wrong below.",
                "cps",
                (f"sum({per_second('records_consumed_total', TOPIC)})", "read"),
                (f"sum({per_second('records_written_total', TOPIC)})", "written"),
            )
        )
        .with_panel(
            lines(
                "End-to-end latency",
                "From a record's timestamp to its commit, of the last record of each batch.",
                "s",
                (quantile(0.5, "end_to_end_latency_seconds"), "half"),
                (quantile(0.99, "end_to_end_latency_seconds"), "99 %"),
            )
        )
        .with_panel(
            lines(
                "Time of a write",
                "Seconds of one try to write a batch, whatever its outcome.",
                "s",
                (quantile(0.5, "write_duration_seconds"), "half"),
                (quantile(0.99, "write_duration_seconds"), "99 %"),
            )
        )
        .with_panel(
            lines(
                "Partitions not read",
                "Backpressure: the database is slower than Kafka, which is no fault. Held and fenced need somebody; "
                "operator: somebody paused them.",
                "none",
                (f"sum by (reason) ({name('partitions_paused')})", "{{reason}}"),
            )
        )
    )


def _limit(made: Dashboard) -> Dashboard:
    return (
        made.with_row(row("What is the limit?"))
        .with_panel(
            lines(
                "Where the time goes",
                "Share of the writer's time by stage, the mean of all instances. Map: decoding and mapping. Write: the "
                "database. Isolation, a part of write, looks for records at fault.",
                "percentunit",
                (_MAP, "map"),
                (_WRITE, "write"),
                (_ISOLATE, "of write: isolation"),
                limits=(Limit(0.8, ORANGE),),
            )
        )
        .with_panel(
            lines(
                "Saturation",
                "How busy each instance's busiest stage is: at 1 it cannot do more. Then see which that is.",
                "percentunit",
                (
                    "max by (instance) (" + per_second("stage_seconds_sum", 'stage=~"map|write"') + ")",
                    "{{instance}}",
                ),
                limits=(Limit(0.8, ORANGE),),
            )
        )
        .with_panel(
            lines(
                "CPU",
                "Cores that each instance uses. Near 1, and most of the time in `map`: more instances help.",
                "none",
                (f"rate(process_cpu_seconds_total{{{HERE}}}[$__rate_interval])", "{{instance}}"),
            )
        )
    )


def _wrong(made: Dashboard) -> Dashboard:
    return (
        made.with_row(row("What is wrong?"))
        .with_panel(
            timeline(
                "States",
                "What each instance is doing: one bar for each state that it was in.",
                f"max by (instance, state) ({name('state')})",
                "{{instance}} {{state}}",
                {".* running": GREEN, ".* (unavailable|held)": RED, ".* (starting|claiming|draining|paused)": YELLOW},
            )
        )
        .with_panel(
            timeline(
                "Waited for",
                "Which service is away, and why: a code (53100: no room on disk, 40403: no schema) or `connection`.",
                f"max by (service, reason) ({name('unavailable')})",
                "{{service}} {{reason}}",
                {".*": RED},
            )
        )
        .with_panel(
            timeline(
                "Held",
                "Nothing is written until somebody looks: too many records at fault, or too many dead letters waiting.",
                f"max by (reason) ({name('hold')})",
                "{{reason}}",
                {".*": RED},
            )
        )
        .with_panel(
            lines(
                "Tries that failed",
                "Tries a second that found a service away, by SQLSTATE or `connection`.",
                "cps",
                (f"sum by (reason) ({per_second('write_retries_total')})", "{{reason}}"),
            )
        )
        .with_panel(
            lines(
                "Dead letters",
                "Records a second that became dead letters, by stage and reason: see the board about them.",
                "cps",
                (
                    f"sum by (stage, reason) ({per_second('records_dead_lettered_total', TOPIC)})",
                    "{{stage}} {{reason}}",
                ),
            )
        )
        .with_panel(
            lines(
                "Rebalances",
                "Times in five minutes that partitions came or went. A few at each deployment; many mean that a member "
                "comes and goes, or is too slow to poll.",
                "none",
                (f"sum by (kind) (increase({name('rebalances_total')}[5m]))", "{{kind}}"),
                limits=(Limit(MANY_REBALANCES, ORANGE),),
            )
        )
    )


def _ledger(made: Dashboard) -> Dashboard:
    outcomes = {
        "records_written_total": "written",
        "records_filtered_total": "filtered",
        "records_dead_lettered_total": "dead letter",
        "records_duplicate_total": "duplicate",
        "records_released_total": "released",
    }
    return (
        made.with_row(row("What became of the records?"))
        .with_panel(
            lines(
                "Ledger",
                "What became of the records a second. Everything read is in one of these, or still in flight.",
                "cps",
                *((f"sum({per_second(metric, TOPIC)})", legend) for metric, legend in outcomes.items()),
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "In flight",
                "Records read, and in none of the outcomes yet.",
                "short",
                (f"sum by (topic) ({name('records_in_flight', TOPIC)})", "{{topic}}"),
            )
        )
        .with_panel(
            lines(
                "Batches by what closed them",
                "Batches a second. `wait`: few records come, latency decides; `records` and `bytes`: they are full.",
                "cps",
                (f"sum by (trigger) ({per_second('batches_closed_total')})", "{{trigger}}"),
            )
        )
    )
