"""The processes of the site: one listener, Granian's master, and workers that do not outlive it.

The listener is ours and all workers accept from it. Left alone, Granian opens one listener per
worker with SO_REUSEPORT: the kernel then deals connections to a worker that is stopped or dead,
a second site on the same port goes unnoticed, and port 0 would be another port in each worker.
"""

import logging
import os
import socket
import threading
from functools import partial
from time import sleep
from typing import Any, Final

import falcon
from granian.server.mp import MPServer
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from harness.errors import PlanError
from harness.modes.mode import Mode
from harness.plan import Deployment
from harness.site.app import create_app

BACKLOG: Final = 4096  # a spike's connections wait here for accept; the kernel may cap it
MAX_CONNECTIONS: Final = 16_384  # per worker. Granian's backpressure counts connections, also idle
# ones kept alive, so it must exceed the voters; what bounds the work in progress is the threads.
THREAD_IDLE_S: Final = 600  # Granian's longest: each new thread costs connections and a journal
STOP_WITHIN_S: Final = 10  # for requests under way at SIGTERM: twice the database's time-out
WATCH_MASTER_S: Final = 0.25  # orphaned workers end within this


class _Server(MPServer):
    """Granian on a listener that exists already."""

    def __init__(self, listener: socket.socket, **options: Any) -> None:
        super().__init__("harness.site", **options)
        self._listener = listener

    def _init_shared_socket(self) -> None:
        self._sso = None
        self._shd = SocketHolder(self._listener.detach(), False, BACKLOG)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PlanError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise PlanError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port, or 0 for any"
        ) from error


def serve(deployment: Deployment, mode: Mode, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished within STOP_WITHIN_S."""
    site = deployment.plan.site
    host, port = listener.getsockname()[:2]
    server = _Server(
        listener,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=site.workers,
        blocking_threads=site.threads,
        blocking_threads_idle_timeout=THREAD_IDLE_S,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(),
        websockets=False,
        backlog=BACKLOG,
        backpressure=MAX_CONNECTIONS,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_WITHIN_S,
        log_level=LogLevels.error,
        log_access=False,
    )
    loader = partial(_start_worker, deployment, mode, os.getpid())
    server.serve(target_loader=loader, wrap_loader=False)


def _start_worker(deployment: Deployment, mode: Mode, master: int) -> "falcon.App[Any, Any]":
    """Called by Granian in each worker, also in those it starts after one has died."""
    logging.basicConfig(format="site: %(message)s")
    threading.Thread(target=_end_with, args=(master,), daemon=True).start()
    return create_app(deployment, mode)


def _end_with(master: int) -> None:
    """Parent-death signals do not reach grandchildren, so each worker looks for itself."""
    while os.getppid() == master:
        sleep(WATCH_MASTER_S)
    os._exit(1)
