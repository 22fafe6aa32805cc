"""The composition root: builds the rooms, plugs them together, starts and stops them in order. No decisions.

The order after each turn is fixed: commit (the engine has done it) → act → publish → reply.
"""

from __future__ import annotations

import asyncio
import gc
import grp
import logging
import os
import signal
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import zmq

from gemflowd.config.book import PersonaBook
from gemflowd.config.live import LiveSettings, cap_problem, rules_from
from gemflowd.config.mcp import server_names
from gemflowd.config.personas import load_personas
from gemflowd.config.prices import load_prices
from gemflowd.config.settings import Settings
from gemflowd.engine.clocks import Clocks
from gemflowd.engine.engine import Engine
from gemflowd.executor.base import Executor, Size
from gemflowd.executor.local.lease import Lease
from gemflowd.executor.local.pool import LocalPool
from gemflowd.from_settings import findings, pool_options, worker_limits
from gemflowd.host import checks, clock, filesystem, process
from gemflowd.host.cgroups import Groups
from gemflowd.host.clockwatch import ClockWatch
from gemflowd.host.flow_directories import FlowDirectories
from gemflowd.host.gpus import gpu_ids
from gemflowd.host.locks import FileLock
from gemflowd.host.memory import memory_limit_bytes
from gemflowd.host.sdnotify import Notifier
from gemflowd.host.titles import set_title
from gemflowd.model import facts
from gemflowd.model.attempt import HandlerInfo
from gemflowd.model.effects import Effects
from gemflowd.model.errors import ConfigError, Refused
from gemflowd.model.event import LIMIT_TOPIC, LOG_TOPIC, PROGRESS_TOPIC, STATS_TOPIC
from gemflowd.places import Places, config_dir, key_is_set, prices_file
from gemflowd.protocol import endpoints
from gemflowd.protocol.versions import DAEMON_VERSION
from gemflowd.server.attempts import AttemptDoor
from gemflowd.server.catalogue import Catalogue
from gemflowd.server.commands.stats import snapshot
from gemflowd.server.desk import Desk
from gemflowd.server.publisher import Publisher
from gemflowd.server.rates import Rates
from gemflowd.server.router import Router
from gemflowd.server.waiters import Waiters
from gemflowd.store.copies import Copies
from gemflowd.store.reader import Questions, Reader
from gemflowd.store.shared_memory import Moment
from gemflowd.store.sqlite import SqliteStore, memory_bytes

log = logging.getLogger("gemflow.app")

#: A turn makes some 10,000 objects that reference counts free again; Python's own figures would collect 15 times for it.
#: Never a full collection of its own accord: with a large flow on its way it takes 50 to 100 ms, and holds loop and engine.
_GC_THRESHOLDS = (20_000, 20, 1_000_000)
#: Seconds between two looks whether there is time for a full collection, and looks after which there must be one all the same.
_COLLECT_EVERY = 10.0
_COLLECT_LATEST = 60
#: Seconds between two statistics for subscribers.
STATS_EVERY = 1.0
#: Bytes that are kept free for the outcomes of running attempts, for when the disk is full.
BALLAST = 8 * 1024 * 1024
#: Quarters of the machine's memory that all workers together may have, where no setting says.
_SHARE_OF_WORKERS = 3


class App:
    """One daemon, from `run` to its end.

    Args:
        settings: all layers but the run-time one.
        reload: reads them again.
    """

    def __init__(self, settings: Settings, places: Places, reload: Callable[[], Settings]) -> None:
        self._places = places
        self._reload = reload
        self._first_settings = settings
        self._epoch = str(uuid.uuid4())
        self._started = clock.wall()
        self._notifier = Notifier()
        self._locks: list[FileLock] = []
        self._rates = Rates()
        self._waiters = Waiters()
        self._catalogue = Catalogue()
        self._drained = asyncio.Event()
        self._engine_ended = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._serving = False
        self._failure: BaseException | None = None
        self._position: dict[str, Any] = {"next": 1, "topics": {}}
        self._paused: dict[str, float] = {}
        self._running = 0
        self._starts_nothing = False
        self._directories = FlowDirectories(places.workspace)

    async def run(self) -> int:
        """Serve until asked to stop. Returns the exit status.

        Raises:
            GemflowError: it can't start.
        """
        self._loop = asyncio.get_running_loop()
        self._claim()
        try:
            await self._start()
            await self._wait_for_end()
            await self._stop()
        finally:
            for lock in reversed(self._locks):
                lock.release()
        return 1 if self._failure is not None else 0

    # Start

    def _claim(self) -> None:
        """Make sure that nobody else works on the same state or sockets."""
        state, endpoint = self._places.state, self._places.endpoint
        if (problem := endpoints.endpoint_problem(endpoint)) is not None:
            raise ConfigError([problem])
        filesystem.make_private(state)
        if (network := filesystem.network_type(state)) is not None:
            raise ConfigError(
                [f"{state} is on a network file system ({network}), which can lose data; choose a local disk"]
            )
        filesystem.make_private(self._places.workspace)
        socket = endpoints.socket_path(endpoint)
        self._made_directory = not socket.parent.exists()
        if self._made_directory:
            filesystem.make_private(socket.parent)
        for path in (
            state / "gemflowd.lock",
            socket.with_name(socket.name + ".lock"),
            self._places.workspace / ".gemflow.lock",
        ):
            lock = FileLock(path)
            lock.acquire()
            self._locks.append(lock)
        self._lease = Lease(state / "lease")
        self._lease.take()

    async def _start(self) -> None:
        set_title("gemflowd")
        process.become_subreaper()
        process.raise_file_limit()
        directories = [config_dir(os.environ) / "personas", *map(Path, self._first_settings["personas"])]
        personas = load_personas(directories)
        prices = load_prices(prices_file(self._first_settings, os.environ))
        self._clocks = Clocks(clock.wall, clock.monotonic)
        gpus = await asyncio.to_thread(gpu_ids, self._first_settings["gpus"], os.environ)
        found = {"gpu": float(len(gpus))} if gpus else {}
        self._engine = Engine(
            lambda: SqliteStore(self._places.database, ballast=BALLAST),
            rules_from(self._first_settings, found, prices),
            self._clocks,
            self._deliver,
            free_bytes=lambda: filesystem.free_bytes(self._places.state),
        )
        before = os.umask(0o077)  # what is in the database is nobody else's business, wherever it lies
        try:
            self._thread = self._engine.start()
            opened = await asyncio.wrap_future(self._engine.opened)
        finally:
            os.umask(before)
        for suffix in ("", "-wal", "-shm"):  # an older version may have left them readable for others
            with suppress(FileNotFoundError):
                self._places.database.with_name(self._places.database.name + suffix).chmod(0o600)
        self._reader = Reader(self._places.database)
        await self._sweep_workspace()
        self._position, self._paused = opened.position, opened.asleep
        settings, problems = self._first_settings.with_stored(opened.settings)
        for problem in problems:
            log.warning("%s; `gemflowctl config reset --all` removes it", problem)
        unusable = opened.settings.keys() - settings.run_time.keys()
        self._live = LiveSettings(
            settings, self._engine.post, self._settings_changed, found, prices, self._baseline_mb, unusable
        )
        self._engine.post(facts.Devices(gpus))
        self._live.replace(settings, prices)
        options = pool_options(settings, self._places)
        total = memory_limit_bytes() * _SHARE_OF_WORKERS // 4
        self._pool = LocalPool(
            self._loop,
            self._lease,
            self._engine.post,
            self._attempt_asks,
            options,
            worker_limits(self._live.settings),
            total,
            Groups.find(),
            self._know_handlers,
            self._publish_progress,
        )
        self._executor: Executor = self._pool
        for number, handler in (
            (signal.SIGTERM, self._on_stop),
            (signal.SIGINT, self._on_stop),
            (signal.SIGHUP, self._on_reload),
        ):
            self._loop.add_signal_handler(number, handler)
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self._clock_watch = ClockWatch()
        self._loop.add_reader(self._clock_watch.fileno(), self._clock_may_be_set)
        handlers = await self._executor.attach(self._size())
        if (too_little := cap_problem(settings["memory_mb"], self._baseline_mb())) is not None:
            await self._executor.close()
            raise ConfigError([f"memory_mb {too_little}"])
        self._know_handlers(handlers)
        self._copies = Copies(self._places.database)
        self._desk = self._make_desk(
            PersonaBook(
                personas, lambda: self._live.settings["default_model"], lambda: server_names(self._live.settings["mcp"])
            )
        )
        self._attempt_door = AttemptDoor(self._loop, self._desk)
        self._open_sockets(settings["socket_group"])
        self._loop.call_later(STATS_EVERY, self._publish_stats)
        if self._notifier.feed_every is not None:
            self._feed_watchdog()
        # What is here now stays: the collector need not look at it again and again, nor stop the loop or the engine for it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        self._loop.call_later(_COLLECT_EVERY, self._collect, 0, self._engine.turns)
        self._serving = True
        self._notifier.ready(f"serving {self._places.endpoint}")
        if not settings["gemini_offline"] and not key_is_set(settings, os.environ):
            log.warning(
                "no key for Gemini: gemini tasks will fail; set GEMINI_API_KEY or gemini_api_key_file, or try --offline"
            )
        log.info("gemflowd %s serves %s, state in %s", DAEMON_VERSION, self._places.endpoint, self._places.state)

    async def _sweep_workspace(self) -> None:
        """What flows have left that are gone goes too, before any task can run: one of a new database has their numbers, perhaps."""
        numbers = await asyncio.to_thread(self._directories.numbers)
        known = await asyncio.wrap_future(self._reader.ask(Questions.flow_numbers, numbers))
        await asyncio.to_thread(self._directories.sweep, known["database"], known["there"], known["next_flow"])
        self._directories.start()

    def _baseline_mb(self) -> int:
        return self._pool.baseline_mb()

    def _size(self) -> Size:
        slots = self._live.size()["slots"]
        return Size(slots["blocking"], slots["coroutine"])

    def _make_desk(self, personas: PersonaBook) -> Desk:
        return Desk(
            loop=self._loop,
            post=self._engine.post,
            reader=self._reader,
            questions=Questions,
            copies=self._copies,
            configuration=self._live,
            personas=personas,
            validator=self._catalogue,
            waiters=self._waiters,
            identity=self._identity,
            stats=lambda: {
                **self._rates.snapshot(clock.wall()),
                "refused_outcomes": self._engine.refused_outcomes,
                "rss_bytes": process.rss_bytes(os.getpid()),
                "store_bytes": memory_bytes(),
            },
            workers=lambda: [
                {name: getattr(worker, name) for name in worker.__slots__} for worker in self._executor.workers()
            ],
            progress=lambda: self._executor.progress(),
            paused_limits=self._paused_limits,
            now=clock.wall,
            moment=lambda: Moment(self._clocks.steady(), self._clocks.wall()),
            free_devices=lambda: self._engine.free_devices,
            memory_tight=lambda: self._engine.memory_tight,
            shutdown=self._shutdown_asked,
            drain=self._drain_asked,
            reload=self._read_again,
            check=self._check,
            restart_workers=self._executor.restart,
            position=lambda: self._position,
        )

    def _open_sockets(self, group: str | None) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._router = Router(self._loop, self._context, self._desk)
        self._publisher = Publisher(self._loop, self._context, self._epoch)
        # Nobody may connect before the mode is right, so the socket is born with none for others.
        before = os.umask(0o177)
        try:
            self._publisher.open(self._places.events)
            self._router.open(self._places.endpoint)
        except zmq.ZMQError as error:
            raise ConfigError([f"the sockets of {self._places.endpoint} can't be opened: {error}"]) from error
        finally:
            os.umask(before)
        if group is not None:
            self._share(group)

    def _share(self, group: str) -> None:
        try:
            number = grp.getgrnam(group).gr_gid
            for endpoint in (self._places.endpoint, self._places.events):
                path = endpoints.socket_path(endpoint)
                os.chown(path, -1, number)
                path.chmod(0o660)
            directory = endpoints.socket_path(self._places.endpoint).parent
            if self._made_directory:  # ours alone until now: the group must be able to pass through
                os.chown(directory, -1, number)
                directory.chmod(0o710)
        except (KeyError, OSError) as error:
            raise ConfigError([f"socket_group {group!r}: {error}"]) from error

    # After each turn

    def _deliver(self, effects: Effects) -> None:
        """From the engine's thread to the loop's."""
        with suppress(RuntimeError):  # the loop is closed: the daemon has ended
            self._loop.call_soon_threadsafe(self._apply, effects)

    def _apply(self, effects: Effects) -> None:
        if effects.stopped:
            self._failure = effects.failure
            self._engine_ended.set()
            return
        if effects.retract:
            self._executor.retract(effects.retract)
        if effects.starts:
            self._executor.start(effects.starts)
        for task, token in effects.cancels:
            self._executor.cancel(task, token)
        if effects.gone:
            self._directories.remove(effects.gone)
        if effects.logs:
            self._executor.logs_stored(len(effects.logs))
        if effects.events is not None:
            self._note_events(effects)
        if effects.ended:
            self._waiters.ended(effects.ended)
            self._rates.note(effects.ended, clock.wall())
        if effects.closed or effects.gone:
            self._waiters.flows([*effects.closed, *effects.gone])
        if effects.logs:
            self._publish_logs(effects)
        self._running = effects.running
        for reply, result in effects.replies:
            try:
                reply(result)
            except Exception:
                log.exception("a reply failed")  # the others are still owed
        if not self._running:
            self._drained.set()
        else:
            self._drained.clear()

    def _note_events(self, effects: Effects) -> None:
        batch = effects.events
        assert batch is not None
        self._position = {"next": batch.first + len(batch.events), "topics": batch.ordinals_after}
        for event in batch.events:
            if event.topic == LIMIT_TOPIC:
                self._paused[event.fields["bucket"]] = event.fields["until"]
        if hasattr(self, "_publisher") and self._publisher.anyone:
            self._publisher.publish(batch)

    def _publish_logs(self, effects: Effects) -> None:
        self._waiters.logged({line[0] for line in effects.logs})
        if hasattr(self, "_publisher") and self._publisher.anyone:
            for task, attempt, at, stream, text in effects.logs:
                fields = {"at": at, "task": task, "attempt": attempt, "stream": stream, "text": text}
                self._publisher.publish_unstored(f"{LOG_TOPIC}{task}", fields)

    def _publish_progress(self, task: int, attempt: int, body: dict[str, Any]) -> None:
        if hasattr(self, "_publisher") and self._publisher.anyone:
            self._publisher.publish_unstored(f"{PROGRESS_TOPIC}{task}", {"task": task, "attempt": attempt, **body})

    def _collect(self, looks: int, turns: int) -> None:
        """Free what holds itself, when nothing has happened for a while: it is quick then, and keeps nobody waiting."""
        idle = turns == self._engine.turns
        if idle or looks >= _COLLECT_LATEST:
            gc.collect()
            looks = 0
        self._loop.call_later(_COLLECT_EVERY, self._collect, looks + 1, self._engine.turns)

    def _publish_stats(self) -> None:
        self._loop.call_later(STATS_EVERY, self._publish_stats)
        if self._live.settings["monitoring"] and self._publisher.wanted(STATS_TOPIC):
            self._stats_task = self._loop.create_task(self._send_stats())

    async def _send_stats(self) -> None:
        self._publisher.publish_unstored(STATS_TOPIC, await snapshot(self._desk))

    def _feed_watchdog(self) -> None:
        """Only a turn that really happened feeds it: a stuck loop, engine or database must trip it."""
        assert self._notifier.feed_every is not None
        self._engine.post(facts.Ping(self._turned))
        self._loop.call_later(self._notifier.feed_every, self._feed_watchdog)

    def _turned(self, _: object) -> None:
        self._notifier.alive()

    def _identity(self) -> dict[str, Any]:
        return {
            "version": DAEMON_VERSION,
            "pid": os.getpid(),
            "epoch": self._epoch,
            "state": "draining" if self._stop_asked.is_set() else "running",
            "drain": self._starts_nothing,
            "started": self._started,
            "events": self._places.events,
        }

    def _paused_limits(self) -> list[dict[str, Any]]:
        now = clock.wall()
        self._paused = {bucket: until for bucket, until in self._paused.items() if until > now}
        return [{"bucket": bucket, "until": until} for bucket, until in self._paused.items()]

    # Signals and requests about ourselves

    def _on_stop(self) -> None:
        if self._stop_asked.is_set():
            self._stop_now.set()  # a second time: don't wait
        self._stop_asked.set()

    def _shutdown_asked(self, drain: bool) -> None:
        self._stop_asked.set()
        if not drain:
            self._stop_now.set()

    def _drain_asked(self, on: bool, reply: facts.Reply) -> None:
        """Start nothing more until it is taken back: what runs may end, what comes is stored."""

        def done(result: dict[str, Any] | Refused) -> None:
            if isinstance(result, Refused):
                reply(result)
                return
            self._starts_nothing = on
            log.info("nothing is started until `drain --off`" if on else "tasks are started again")
            reply({"drain": on, "running": self._running})

        self._engine.post(facts.Starts(done, not on))

    def _check(self) -> list[dict[str, Any]]:
        """What `doctor` finds. On any thread: it waits for the disk."""
        found = findings(self._live.settings, self._places, self._notifier)
        try:
            load_prices(prices_file(self._reload(), os.environ))
        except ConfigError as error:
            remedy = "mend it, then `gemflowctl reload`; `gemflowd check-config` shows it too"
            settings = checks.Finding("settings", "wrong", f"they can't be read again: {error}", remedy)
        else:
            settings = checks.Finding("settings", "ok", "they can be read again")
        return [*found, asdict(settings)]

    def _attempt_asks(self, task: int, token: int, op: str, body: bytes, take: Callable[[bool, bytes], None]) -> None:
        """From a worker. Nothing runs before the door is there."""
        self._attempt_door.ask(task, token, op, body, take)

    def _on_reload(self) -> None:
        if not self._serving:
            log.info("SIGHUP: the daemon is just starting, with what it would read again")
            return
        self._reload_task = self._loop.create_task(self._reload_on_signal())

    async def _reload_on_signal(self) -> None:
        with suppress(Refused):  # the log has why
            await self._read_again()

    async def _read_again(self) -> dict[str, Any]:
        """Settings and handlers anew, and fresh workers one by one. Returns the body of `reload`.

        Raises:
            Refused: `invalid_config`; all is as before.
        """
        async with self._reloading:
            self._notifier.reloading("reading the settings and loading the handlers again")
            try:
                settings = self._reload()
                prices = load_prices(prices_file(settings, os.environ))
                memory_mb = settings.with_changes(self._live.settings.run_time)["memory_mb"]
                if (problem := cap_problem(memory_mb, self._baseline_mb())) is not None:
                    raise ConfigError([f"memory_mb {problem}"])
                handlers = await self._pool.reload(pool_options(settings, self._places))
            except ConfigError as error:
                for problem in error.problems:
                    log.error("nothing is reloaded: %s", problem)  # noqa: TRY400 - a traceback would say nothing more
                raise Refused("invalid_config", f"nothing was changed: {error}") from None
            finally:
                self._notifier.ready(f"serving {self._places.endpoint}")
            self._know_handlers(handlers)
            changed, pending = self._live.replace(settings, prices)
        log.info("settings and handlers read again; changed: %s", ", ".join(changed) or "none")
        if pending:
            log.warning("these take effect when the daemon is started again: %s", ", ".join(pending))
        return {"changed": changed, "pending": pending, "restarting": self._pool.renewing()}

    def _know_handlers(self, handlers: list[HandlerInfo]) -> None:
        """What is submitted is checked by these from now on; tasks of types that are gone are held."""
        self._catalogue.load(handlers)
        self._engine.post(facts.Catalogue(handlers))

    def _clock_may_be_set(self) -> None:
        if self._clock_watch.was_set():
            self._engine.post(facts.ClockSet())

    def _settings_changed(self) -> None:
        self._executor.limit(worker_limits(self._live.settings))
        self._executor.resize(self._size())

    def _reap(self) -> None:
        """Orphans of workers are our children (subreaper); nurseries are waited for by the pool."""
        nurseries = self._pool.nursery_pids
        with suppress(ChildProcessError):
            while True:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None or found.si_pid in nurseries:
                    return
                os.waitpid(found.si_pid, os.WNOHANG)

    # End

    async def _wait_for_end(self) -> None:
        await self._first_of(self._stop_asked, self._engine_ended)

    async def _stop(self) -> None:
        """Start nothing new, let what runs finish for a while, give the rest back uncharged."""
        self._stop_asked.set()
        self._notifier.stopping()
        if not self._engine_ended.is_set():
            await self._drain()
        await self._executor.close()
        if not self._engine_ended.is_set():
            self._engine.post(facts.Stop())
            await self._engine_ended.wait()
        self._thread.join()
        self._desk.ending = True
        self._waiters.wake_all()
        self._copies.close()
        await self._router.finish(timeout=1.0)
        self._router.close()
        self._attempt_door.close()
        self._publisher.close()
        self._reader.close()
        await asyncio.to_thread(self._directories.close)
        self._context.term()
        for endpoint in (self._places.endpoint, self._places.events):
            endpoints.socket_path(endpoint).unlink(missing_ok=True)
        self._loop.remove_reader(self._clock_watch.fileno())
        self._clock_watch.close()
        self._lease.release()
        log.info("stopped")

    async def _drain(self) -> None:
        timeout = self._live.settings["drain_timeout"]
        known = asyncio.Event()
        self._engine.post(facts.Drain())
        self._engine.post(facts.Ping(lambda _: known.set()))  # answered after the turn that knows of the drain
        await self._first_of(known, self._engine_ended)
        if self._running:
            log.info("waiting up to %g s for %d running attempts", timeout, self._running)
            await self._first_of(self._drained, self._stop_now, self._engine_ended, timeout=timeout)

    async def _first_of(self, *events: asyncio.Event, timeout: float | None = None) -> None:
        """Wait until one of them is set, or for `timeout` seconds."""
        waits = [self._loop.create_task(event.wait()) for event in events]
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


def run(settings: Settings, places: Places, reload: Callable[[], Settings]) -> int:
    """Run a daemon in this process until it is asked to stop. Returns the exit status."""
    return asyncio.run(App(settings, places, reload).run())
