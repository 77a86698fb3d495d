"""Where workers of other machines come to, and where they find what they are to load."""

import errno
import socket
from typing import Final

import msgspec

from harness.errors import PlanError, ServiceError
from harness.load.request import Target
from harness.plan import Plan, host_of
from harness.services.targets import is_loopback

ANY_ADDRESS: Final = ("*", "0.0.0.0", "::")


def within_reach(plan: Plan) -> Plan:
    """The plan with its site where its workers can reach it; any other as it is.

    Workers that come over a network would look for 127.0.0.1 on their own machines. The address
    that they come to is one of ours that they reach. Raises PlanError when there is no telling.
    """
    if not plan.voters.master:
        return plan
    host = host_of(plan.voters.master, "--listen")
    if is_loopback(host):
        return plan
    if plan.target.url:
        if _is_each_ones_own(Target.from_url(plan.target.url).host):
            raise PlanError(
                f"--target {plan.target.url} is another server on each worker's machine; "
                "give the address at which they reach it"
            )
        return plan
    if not _is_each_ones_own(plan.site.host):
        return plan
    if host in ANY_ADDRESS:
        raise PlanError(
            f"--listen {plan.voters.master} does not say where workers find the site of this "
            "machine; give the address at which they reach it"
        )
    return msgspec.structs.replace(plan, site=msgspec.structs.replace(plan.site, host=host))


def _is_each_ones_own(host: str) -> bool:
    """Whether it is another machine for each that asks for it."""
    return host in ANY_ADDRESS or is_loopback(host)


def require_free(plan: Plan) -> None:
    """Raises ServiceError when workers cannot be waited for at the plan's address, if it has one.

    Better now than after all services have been started.
    """
    if not plan.voters.master:
        return
    host = host_of(plan.voters.master, "--listen")
    port = int(plan.voters.master.rpartition(":")[2])
    try:
        family = socket.getaddrinfo(host.replace("*", "0.0.0.0"), port)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the master has it
            probe.bind(("" if host == "*" else host, port))
    except OSError as error:
        advice = {
            errno.EADDRINUSE: "another run may listen there, --listen names another port",
            errno.EACCES: "--listen names another port",
        }.get(error.errno or 0, "--listen takes an address of this machine")
        raise ServiceError(
            f"cannot listen on {plan.voters.master}: {error.strerror}; {advice}"
        ) from error
