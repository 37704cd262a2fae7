"""The result of a load: the `Report`, its table for people, its JSON line for programs.

It includes the generator's own cost, because a measurement says nothing about the server if the generator itself
was the bottleneck. Nothing is sent here.
"""

import dataclasses
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lab_support.instruments.load import latency
from lab_support.instruments.load.latency import COMPLETED, HUNG_UP, Distribution, RequestRecord

BOTTLENECK = "the load generator itself is the bottleneck"
_ADVICE = {"status 401": "; give the server's key by LAB_API_KEY in the environment, or by --api-key"}
_BUSY_SHARE = 0.85
"""Share of one core, running or waiting for one: asyncio runs in one thread, so 1.0 is the maximum."""
_LONGEST_NAME = 40
"""Characters of a server's name, which the server may choose at any length."""
_LATE_SECONDS = 0.010
"""If a tenth of the sends are later than this, neither the timer (about 1 ms) nor a hiccup explains it."""


@dataclass(frozen=True, slots=True)
class GeneratorCost:
    """Cost of the generator's own process. Shares are of one core over the run.

    waiting_share: ready to run but waiting for a core, from /proc/self/schedstat; 0 if that can't be read.
    """

    cpu_seconds: float
    cpu_share: float
    waiting_share: float


class GeneratorMeter:
    """A context around a run; afterwards `cost` is this process's cost meanwhile."""

    cost: GeneratorCost

    def __enter__(self) -> Self:
        self._started = (time.monotonic(), time.process_time(), _seconds_waiting_for_a_core())
        return self

    def __exit__(self, *exception: object) -> None:
        started_at, cpu, waited = self._started
        seconds = max(time.monotonic() - started_at, 1e-9)
        cpu = time.process_time() - cpu
        self.cost = GeneratorCost(cpu, cpu / seconds, (_seconds_waiting_for_a_core() - waited) / seconds)


def _seconds_waiting_for_a_core() -> float:
    try:
        with open("/proc/thread-self/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except OSError:
        return 0.0  # not Linux, or a kernel without schedstat


@dataclass(frozen=True, slots=True)
class Share:
    """One API server's, or one engine core's, share of a load. Latencies in seconds."""

    requests: int
    tokens: int
    first_token: Distribution
    inter_token: Distribution
    end_to_end: Distribution


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a load. Times in seconds.

    description: of the load. url: of the server. seed: of the load's requests. asked: completed + hung_up + all of
    `errors`. completed: answered to the end. hung_up: on purpose. errors: their counts, by kind. tokens: of all
    answers. by_server, by_engine: the share of each, by its name. generator: its own cost. stale_connections: kept ones
    that the server had closed. seconds: from the start of the load to the end of its last answer, including the tail in
    which fewer and fewer requests run. lateness: how late the generator got to each request (open loop). first_token
    and inter_token are empty for answers that were not streamed. bottleneck: `BOTTLENECK` with its reason, or "".
    stand_in: words for what stands in for the server's GPU (`--device paced:…`), for every title; "" if nothing does.
    """

    description: str
    url: str
    seed: int
    seconds: float
    asked: int
    completed: int
    hung_up: int
    errors: dict[str, int]
    tokens: int
    requests_per_second: float
    tokens_per_second: float
    first_token: Distribution
    inter_token: Distribution
    end_to_end: Distribution
    lateness: Distribution
    by_server: dict[str, Share]
    by_engine: dict[str, Share]
    generator: GeneratorCost
    stale_connections: int
    bottleneck: str
    stand_in: str = ""

    @property
    def generator_us_per_token(self) -> float:
        """The generator's own CPU time per streamed token, in microseconds."""
        return self.generator.cpu_seconds * 1e6 / self.tokens if self.tokens else 0.0


def summarise(
    records: Sequence[RequestRecord],
    *,
    description: str,
    url: str,
    seconds: float,
    open_loop: bool,
    generator: GeneratorCost,
    stale_connections: int,
    seed: int,
) -> Report:
    """The report on `records`."""
    outcomes = Counter(record.outcome for record in records)
    completed, hung_up = outcomes.pop(COMPLETED, 0), outcomes.pop(HUNG_UP, 0)
    tokens = sum(record.tokens for record in records)
    lateness = latency.distribution(latency.latenesses(records)) if open_loop else Distribution()
    return Report(
        description=description,
        url=url,
        seed=seed,
        seconds=seconds,
        asked=len(records),
        completed=completed,
        hung_up=hung_up,
        errors=dict(sorted(outcomes.items())),
        tokens=tokens,
        requests_per_second=completed / seconds,
        tokens_per_second=tokens / seconds,
        first_token=latency.distribution(latency.times_to_first_token(records)),
        inter_token=latency.distribution(latency.inter_token_latencies(records)),
        end_to_end=latency.distribution(latency.end_to_end_latencies(records)),
        lateness=lateness,
        by_server=_shares(records, lambda record: record.served_by),
        by_engine=_shares(records, lambda record: record.engine),
        generator=generator,
        stale_connections=stale_connections,
        bottleneck=bottleneck(generator, lateness),
        stand_in=next((record.stand_in for record in records if record.stand_in), ""),
    )


def _shares(records: Sequence[RequestRecord], key: Callable[[RequestRecord], str]) -> dict[str, Share]:
    groups: dict[str, list[RequestRecord]] = defaultdict(list)
    for record in records:
        if key(record):
            groups[key(record)].append(record)
    return {name: _share(groups[name]) for name in sorted(groups)}


def _share(records: Sequence[RequestRecord]) -> Share:
    def summary(values: list[float]) -> Distribution:
        return latency.distribution(values, with_quantiles=False)

    return Share(
        requests=len(records),
        tokens=sum(record.tokens for record in records),
        first_token=summary(latency.times_to_first_token(records)),
        inter_token=summary(latency.inter_token_latencies(records)),
        end_to_end=summary(latency.end_to_end_latencies(records)),
    )


def bottleneck(generator: GeneratorCost, lateness: Distribution) -> str:
    """Why the generator rather than the server was the limit, or ""."""
    wanted = generator.cpu_share + generator.waiting_share
    if wanted >= _BUSY_SHARE:
        return f"{BOTTLENECK}: it used or waited for {wanted:.0%} of a core"
    if lateness.p90 > _LATE_SECONDS:
        return f"{BOTTLENECK}: a tenth of its requests went out over {lateness.p90 * 1000:.0f} ms late"
    return ""


# ---- for people ------------------------------------------------------------------------------------------------------


def table(report: Report) -> str:
    """Several lines of text: throughput, latencies in ms with their percentiles, shares, errors, the generator."""
    lines = [
        f"{report.description}: {report.asked} requests in {report.seconds:.2f} s{_by_a_stand_in(report)}",
        f"  {report.requests_per_second:.1f} requests/s   {report.tokens_per_second:.0f} tokens/s   "
        f"{report.completed} completed, {report.hung_up} hung up on purpose, {sum(report.errors.values())} failed",
        *(f"  failed: {count} × {kind}{_ADVICE.get(kind, '')}" for kind, count in report.errors.items()),
        "",
        f"  {'latency in ms':22}{'n':>8}{'p50':>10}{'p90':>10}{'p99':>10}{'max':>10}",
        _row("time to first token", report.first_token),
        _row("inter-token", report.inter_token),
        _row("end to end", report.end_to_end),
        *([_row("generator late by", report.lateness)] if report.lateness.n else []),
        *_share_lines("API server", report.by_server),
        *_share_lines("engine core", report.by_engine),
        "",
        _generator_line(report),
    ]
    return "\n".join(lines)


def _by_a_stand_in(report: Report) -> str:
    return f", answered by a {report.stand_in}" if report.stand_in else ""


def _row(name: str, values: Distribution) -> str:
    if not values.n:
        return f"  {name:22}{0:>8}{'–':>10}{'–':>10}{'–':>10}{'–':>10}"
    figures = "".join(f"{value * 1000:>10.2f}" for value in (values.p50, values.p90, values.p99, values.max))
    return f"  {name:22}{values.n:>8}{figures}"


def _share_lines(title: str, shares: dict[str, Share]) -> list[str]:
    if not shares:
        return []
    head = f"  {title:22}{'requests':>10}{'tokens':>10}{'first token p50':>18}{'inter-token p50':>18}"
    return ["", head] + [
        f"  {_short(name):22}{share.requests:>10}{share.tokens:>10}"
        f"{_median(share.first_token):>18}{_median(share.inter_token):>18}"
        for name, share in shares.items()
    ]


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _median(values: Distribution) -> str:
    return f"{values.p50 * 1000:.2f}" if values.n else "–"


def _generator_line(report: Report) -> str:
    cost = report.generator
    text = f"  load generator: {cost.cpu_share:.0%} of a core, {report.generator_us_per_token:.0f} µs CPU a token"
    if cost.waiting_share:
        text += f", waited for a core {cost.waiting_share:.0%} of the time"
    return f"{text}\n  ⚠ {report.bottleneck}" if report.bottleneck else text


# ---- for programs ----------------------------------------------------------------------------------------------------


def to_json(report: Report) -> str:
    """One line of JSON that `from_json` reads."""
    return json.dumps(dataclasses.asdict(report), ensure_ascii=False)


def from_json(text: str) -> Report:
    """The report in `text`, which `to_json` wrote."""
    data = json.loads(text)
    for name in ("first_token", "inter_token", "end_to_end", "lateness"):
        data[name] = _distribution(data[name])
    for name in ("by_server", "by_engine"):
        data[name] = {key: _share_from(value) for key, value in data[name].items()}
    return Report(**{**data, "generator": GeneratorCost(**data["generator"])})


def _distribution(data: dict[str, Any]) -> Distribution:
    return Distribution(**{**data, "quantiles": tuple(data["quantiles"])})


def _share_from(data: dict[str, Any]) -> Share:
    latencies = {name: _distribution(data[name]) for name in ("first_token", "inter_token", "end_to_end")}
    return Share(requests=data["requests"], tokens=data["tokens"], **latencies)
