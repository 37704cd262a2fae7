"""The engine cores' own figures, from the server's /metrics: running and waiting sequences, blocks, steps.

A thread of its own asks once a second while somebody looks, because a stopped server lets a question hang. It reads the
names that vLLM has, and ours where vLLM has none. Runs in the process that watches.
"""

import http.client
import math
import re
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

EVERY, _PATIENCE, _MOST_BYTES, _MOST_ENGINES = 1.0, 1.0, 4 << 20, 256
_SERIES = re.compile(r"^([\w:]+)\{([^}]*)\} (\S+)$", re.MULTILINE)
_ENGINE = re.compile(r'\bengine="([0-9]{1,6})"')
_STAND_IN = re.compile(r'\bstand_in="([^"]+)"')
_STEPS = ("lab_engine_steps_total", "vllm:iteration_tokens_total_count")


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine core at one moment. Figures that the server does not tell are None.

    used: share of the blocks. steps, tokens: a second. step_ms: from step to step while sequences run.
    """

    index: int
    running: float | None = None
    waiting: float | None = None
    used: float | None = None
    blocks: float | None = None
    steps: float | None = None
    step_ms: float | None = None
    tokens: float | None = None


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """All engine cores. reason: why there are no figures, or no new ones, or "".

    at: of the figures, in seconds on the clock of `time.monotonic`.
    """

    engines: tuple[Engine, ...] = ()
    reason: str = ""
    stand_in: str = ""
    at: float = 0.0

    def as_data(self) -> dict[str, Any]:
        known = [engine for engine in self.engines if engine.running is not None and engine.waiting is not None]
        streams = sum(int((engine.running or 0) + (engine.waiting or 0)) for engine in known) if known else None
        return {
            "engines": [asdict(engine) for engine in self.engines],
            "reason": self.reason,
            "age": round(time.monotonic() - self.at, 1) if self.reason and self.engines else 0,
            "stand_in": self.stand_in,
            "streams": streams,
        }


class Unanswered(Exception):
    """The server did not give its metrics. The text says why."""


class EngineWatch:
    """Asks `url` for its metrics. `figures` are the latest.

    await_somebody: waits until somebody looks; its thread ends once that returns False.
    """

    def __init__(self, url: str, key: str | None, await_somebody: Callable[[], bool]) -> None:
        self.figures = EngineFigures(reason="the first answer is awaited")
        self._url, self._key, self._await_somebody = urllib.parse.urlsplit(url), key, await_somebody
        self._asked_from: tuple[str, ...] = ()
        self._before: tuple[float, dict[int, dict[str, float]]] | None = None

    def ours(self) -> tuple[str, ...]:
        """The addresses from which it has asked last. Any thread may ask."""
        return self._asked_from

    def start(self) -> None:
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def _run(self) -> None:
        while self._await_somebody():
            self._ask()
            time.sleep(EVERY)

    def _ask(self) -> None:
        try:
            text = self._metrics()
        except Unanswered as error:
            self.figures = EngineFigures(self.figures.engines, str(error), self.figures.stand_in, self.figures.at)
            return
        now, found = time.monotonic(), by_engine(text)
        engines = tuple(_engine(index, found[index], self._rates(index, found[index], now)) for index in sorted(found))
        self._before = now, found
        stand_in = _STAND_IN.search(text)
        reason = "" if engines else "its /metrics name no engine core"
        self.figures = EngineFigures(engines, reason, stand_in[1] if stand_in else "", now)

    def _metrics(self) -> str:
        """The text. Raises `Unanswered`."""
        url, key = self._url, self._key
        connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=_PATIENCE)
        try:
            connection.connect()
            host, port = connection.sock.getsockname()[:2]
            self._asked_from = (*self._asked_from[-3:], f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            connection.request("GET", url.path.rstrip("/") + "/metrics", headers=headers | {"Connection": "close"})
            answer = connection.getresponse()
            text = answer.read(_MOST_BYTES).decode("utf-8", "replace")
        except TimeoutError:
            raise Unanswered(f"/metrics gave no answer within {_PATIENCE:.0f} s") from None
        except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: a key that no header can hold
            raise Unanswered(f"/metrics: {error or type(error).__name__}") from None
        finally:
            connection.close()
        if answer.status == 401:
            raise Unanswered("the server asks for its key: set LAB_API_KEY, or give --api-key-file")
        if answer.status != 200:
            raise Unanswered(f"/metrics answers {answer.status}")
        return text

    def _rates(self, index: int, values: dict[str, float], now: float) -> dict[str, float]:
        """The increase of each figure in a second."""
        if self._before is None or index not in self._before[1]:
            return {}
        then, before = self._before[0], self._before[1][index]
        return {name: (value - before.get(name, value)) / (now - then) for name, value in values.items()}


def by_engine(text: str) -> dict[int, dict[str, float]]:
    """The figures of a /metrics that name an engine core, by its index, summed over other labels; no histograms."""
    found: dict[int, dict[str, float]] = {}
    for name, labels, value in _SERIES.findall(text):
        engine, figure = None if name.endswith("_bucket") else _ENGINE.search(labels), _figure(value)
        if engine and figure is not None and (int(engine[1]) in found or len(found) < _MOST_ENGINES):
            values = found.setdefault(int(engine[1]), {})
            values[name] = values.get(name, 0.0) + figure
    return found


def _figure(text: str) -> float | None:
    """None for what is no number, or not a finite one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _engine(index: int, values: dict[str, float], rates: dict[str, float]) -> Engine:
    steps = next((rates[name] for name in _STEPS if name in rates), None)
    running = values.get("vllm:num_requests_running")
    return Engine(
        index,
        running,
        values.get("vllm:num_requests_waiting"),
        values.get("vllm:kv_cache_usage_perc"),
        values.get("lab_engine_total_blocks"),
        steps,
        1000 / steps if steps and running else None,
        rates.get("vllm:generation_tokens_total"),
    )
