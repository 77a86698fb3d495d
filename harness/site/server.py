"""The processes of the site: Granian's master, and workers that do not outlive it.

Each worker has a listener of its own on the same port (SO_REUSEPORT), and the kernel deals
connections to them by hash. One listener for all was measured and dropped: with connections kept
alive, one of two workers often got every connection and the other none, at half the votes/s.
"""

import logging
import os
import resource
import socket
import sys
import threading
from functools import partial
from time import sleep
from typing import Any, Final

import falcon
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from harness.deployment import Deployment
from harness.errors import PlanError, RecordingError
from harness.modes.mode import Mode
from harness.site.app import DOOR_THREADS, create_app, threads_of
from harness.site.slow_bodies import Watcher

BACKLOG: Final = 4096  # a spike's connections wait here for accept; the kernel may cap it
MAX_CONNECTIONS: Final = 16_384  # per worker. Granian's backpressure counts connections, also idle
# ones kept alive, so it must exceed the voters; what bounds the work in progress is the sessions.
FILES_BESIDES: Final = 64  # per worker: libraries, the log, Granian's own
FILES_PER_SESSION: Final = 3  # the database's connection, the journal's segments
HEAD_S: Final = 30.0  # for a request's head, from the answer before it or the connection's begin:
# so also how long a connection may lie idle. It costs no thread, and a voter may come again.
HEAD_BYTES: Final = 16 << 10  # of a head, cookies and all; so much memory a connection can take
THREAD_IDLE_S: Final = 600  # Granian's longest; threads start when needed, and cost little
SWITCH_S: Final = 0.2  # Who waits for the interpreter wakes this often to ask for it. With Python's
# own 5 ms, 500 threads that came to read their requests spent a busy core on asking, and no vote
# was answered for seconds. Nobody holds it as long: each vote lets go of it many times.
STOP_WITHIN_S: Final = 10  # for requests under way at SIGTERM: twice the database's time-out
WATCH_MASTER_S: Final = 0.25  # orphaned workers end within this


def free_address(host: str, port: int) -> tuple[str, int]:
    """The numeric address to serve on; port 0 becomes a free one.

    Raises PlanError when it cannot be had. Granian itself would share a port with another site
    of the same user, and neither would notice.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.create_server(address[:2], family=family) as probe:
            numeric, free_port = probe.getsockname()[:2]
            return numeric, free_port
    except OSError as error:
        raise PlanError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port, or 0 for any"
        ) from error


def serve(deployment: Deployment, mode: Mode, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished within STOP_WITHIN_S."""
    site = deployment.plan.site
    server = MPServer(
        "harness.site",
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=site.workers,
        blocking_threads=threads_of(site),
        blocking_threads_idle_timeout=THREAD_IDLE_S,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=round(HEAD_S * 1000), max_buffer_size=HEAD_BYTES
        ),
        websockets=False,
        backlog=BACKLOG,
        backpressure=_most_connections(deployment),
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_WITHIN_S,
        log_level=LogLevels.error,
        log_access=False,
    )
    loader = partial(_start_worker, deployment, mode, os.getpid(), port)
    server.serve(target_loader=loader, wrap_loader=False)


def _most_connections(deployment: Deployment) -> int:
    """So many that a worker never runs out of open files: it then could neither accept nor vote.

    Raises the limit as far as it may be raised; workers inherit it.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    per_session = FILES_PER_SESSION + len(deployment.memcached)
    besides = FILES_BESIDES + deployment.plan.site.threads * per_session
    return max(1, min(MAX_CONNECTIONS, most - besides))


def _start_worker(
    deployment: Deployment, mode: Mode, master: int, port: int
) -> "falcon.App[Any, Any]":
    """Called by Granian in each worker, also in those it starts after one has died."""
    logging.basicConfig(format="site: %(message)s")
    sys.setswitchinterval(SWITCH_S)
    spare = DOOR_THREADS // 2  # the other half is for those who come with all they have to say
    threading.Thread(target=_end_with, args=(master,), daemon=True).start()
    threading.Thread(target=Watcher(port, spare).watch, daemon=True).start()
    try:
        return create_app(deployment, mode)
    except RecordingError as error:
        sys.exit(f"site: {error}")


def _end_with(master: int) -> None:
    """Parent-death signals do not reach grandchildren, so each worker looks for itself."""
    while os.getppid() == master:
        sleep(WATCH_MASTER_S)
    os._exit(1)
