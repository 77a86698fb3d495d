"""Requests that nobody well-meaning sends, as Hypothesis strategies: bytes for a raw socket."""

from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.hostile_text import (
    CHUNKINGS,
    COOKIES,
    EVIL,
    FIELDS,
    FORMS,
    FRAMINGS,
    IDS,
    JSON,
    LINES,
    MARKER,
    NESTED,
    NUMBERS,
    ONCE,
    ORIGINS,
    POLL,
    RAW_FIELDS,
    SIZES,
    TASTES,
    TEXT,
    WISHES,
    WRAPPINGS,
    encoded,
    percent,
    wish,
)

SHOWN_BYTES = 400  # of an attack that was too much for the site; the seed repeats it whole


class Attack(NamedTuple):
    """What is sent, and what may be expected of the site."""

    kind: str
    sent: bytes
    answers: int = 1  # how many the site has to give before it hangs up; 0: as it likes
    bodies: tuple[bytes, ...] = ()  # of the votes that it may take in; empty where that is open
    poll: str = POLL  # of those votes
    form: bool = False  # whether they are forms, as people's browsers send them

    def __repr__(self) -> str:
        shown = repr(self.sent[:SHOWN_BYTES])
        rest = len(self.sent) - SHOWN_BYTES
        return f"{self.kind}: {shown}{f' and {rest:,} bytes more' if rest > 0 else ''}"


def request(
    kind: str,
    *,
    method: bytes = b"POST",
    target: bytes = f"/polls/{POLL}/votes".encode(),
    version: bytes = b"HTTP/1.1",
    headers: tuple[bytes, ...] = (),
    body: bytes = b"",
) -> Attack:
    """A whole request; the connection ends with its answer."""
    lines = [b"%s %s %s" % (method, target, version), b"Host: localhost", b"Connection: close"]
    lines += [b"Content-Length: %d" % len(body), *headers]
    return Attack(kind, b"\r\n".join([*lines, b"", body]), bodies=(body,))


def votes() -> st.SearchStrategy[Attack]:
    """Good votes of voters with names that are allowed, and look like something else."""
    return st.builds(vote, WISHES, st.sampled_from([POLL, ONCE]))


def vote(wish: dict[str, Any], poll: str = POLL) -> Attack:
    """A good one."""
    target = f"/polls/{poll}/votes".encode()
    return request("vote", target=target, body=encoded(wish))._replace(poll=poll)


def bodies() -> st.SearchStrategy[Attack]:
    """Bodies that are no vote, or hardly one."""
    wish = WISHES.map(encoded)
    raw = st.builds(
        lambda vote, choice, voter: (
            b'{"vote":"%s","choice":%s,"voter":%s}' % (vote.encode(), choice, voter)
        ),
        IDS,
        NUMBERS | st.just(b"1"),
        RAW_FIELDS | st.just(b'"v1"'),
    )
    padded = st.builds(lambda body, size: body.ljust(size), wish, SIZES)
    wrapped = st.builds(lambda body, wrap: wrap(body), wish, st.sampled_from(WRAPPINGS))
    body = st.one_of(
        FIELDS.map(encoded), raw, NESTED, padded, wrapped, JSON.map(encoded), st.binary(max_size=99)
    )
    types = st.sampled_from(
        [
            (),
            (b"Content-Type: application/json",),
            (b"Content-Type: application/x-www-form-urlencoded",),
            (b"Content-Type: multipart/form-data; boundary=x",),
            (b"Content-Type: application/json; charset=utf-16",),
            (b"Content-Type: \xff/\xfe",),
            (b"Content-Encoding: gzip", b"Content-Type: application/json"),
        ]
    )
    return st.builds(lambda body, headers: request("body", body=body, headers=headers), body, types)


def targets() -> st.SearchStrategy[Attack]:
    """Addresses: poll names that are commands, walks, and other forms of a target."""
    raw = TEXT.map(lambda text: text.encode("utf-8", "surrogatepass"))
    quoted = TEXT.map(percent)
    name = (
        quoted | raw | st.sampled_from([b"a" * 5000, b"a" * 70_000, b"%", b"%zz", b"%ff", b"%00"])
    )
    form = st.sampled_from(
        [
            b"/polls/%s/votes",
            b"/polls/%s/results",
            b"/polls/%s",
            b"/polls/besieged/%s",
            b"/%s",
            b"%s",
            b"//%s",
            b"/polls/besieged/../%s/votes",
            b"/polls/besieged/votes?%s",
            b"/polls/besieged/results#%s",
            b"/polls/besieged;%s/votes",
            b"http://127.0.0.1:1/polls/%s/votes",
            b"http://%s/polls/besieged/results",
        ]
    )
    target = st.builds(lambda form, name: form % name, form, name)
    others = st.sampled_from(
        [b"*", b"", b"/", b"127.0.0.1:443", b"\xff", b"/\x00", b"http://", b"?"]
    )
    return st.builds(
        lambda method, target, wish: request("target", method=method, target=target, body=wish),
        st.sampled_from([b"GET", b"POST", b"HEAD"]),
        target | others,
        WISHES.map(encoded),
    )


def headers() -> st.SearchStrategy[Attack]:
    """Headers that are too much, doubled, folded, broken."""
    line = LINES | TEXT.map(lambda text: b"X-Any: %s" % text.encode("utf-8", "surrogatepass"))
    bad = st.sampled_from([b"", b"{}", encoded(wish(f"{MARKER} {MARKER}"))])
    page = st.sampled_from([b"votes", b"results", MARKER.encode()])
    return st.builds(
        lambda lines, method, page, body: request(
            "header",
            method=method,
            headers=tuple(lines),
            body=body,
            target=b"/polls/besieged/%s" % page,
        ),
        st.lists(line, min_size=1, max_size=3),
        st.sampled_from([b"POST", b"POST", b"GET"]),
        page,
        WISHES.map(encoded) | bad,
    )


def forms() -> st.SearchStrategy[Attack]:
    """What no browser sends of a ballot paper, or one that is not asked by its person."""

    def build(
        fields: str, name: bytes, cookie: bytes, origin: tuple[bytes, ...], taste: bytes
    ) -> Attack:
        lines = [*origin, b"Cookie: pollstorm-voter=" + cookie, b"Accept: " + taste]
        if not any(line.startswith(b"Content-Type") for line in origin):
            lines.append(b"Content-Type: application/x-www-form-urlencoded")
        body = fields.encode("utf-8", "surrogatepass")
        attack = request("form", target=b"/polls/%s/votes" % name, headers=tuple(lines), body=body)
        return attack._replace(poll=name.decode(), form=True)

    there = st.sampled_from([POLL.encode(), ONCE.encode()])
    nowhere = st.just(MARKER.encode()) | EVIL.map(percent).filter(bool)
    return st.builds(build, FORMS, there | there | nowhere, COOKIES, ORIGINS, TASTES)


def pages() -> st.SearchStrategy[Attack]:
    """Pages for people, with addresses, cookies and tastes that none has."""
    text = st.one_of(TEXT.map(percent), st.sampled_from([POLL.encode(), b"..", b"%2e%2e"]))
    form = st.sampled_from(
        [
            *(b"/", b"/?%s", b"/%s", b"/polls/%s", b"/polls/%s/votes", b"/polls/%s/results"),
            *(b"/static/%s", b"/static/../%s", b"/static/%s/../../page.html", b"/static//etc/%s"),
        ]
    )
    return st.builds(
        lambda method, form, text, cookie, taste: request(
            "page",
            method=method,
            target=form.replace(b"%s", text),
            headers=(b"Cookie: pollstorm-voter=" + cookie, b"Accept: " + taste),
        ),
        st.sampled_from([b"GET", b"GET", b"HEAD", b"POST", b"OPTIONS", b"DELETE"]),
        form,
        text,
        COOKIES,
        TASTES,
    )


METHODS = b"GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT PROPFIND MKCOL REPORT LOCK".split()
STRANGE = [b"get", b"FOO", b"P\xc3\x96ST", b"", b"POST POST", b"X" * 1000, b"PO\x00ST", b"\r\nPOST"]


def methods() -> st.SearchStrategy[Attack]:
    """Methods that an address has not, or that do not exist."""
    pages = [b"votes", b"results", b"", b"nothing"]
    target = st.sampled_from(
        [b"/polls/besieged/" + page for page in pages]
        + [b"/health/live", b"/health/ready", b"/metrics", b"/void", b"/openapi.json", b"/", b"*"]
    )
    return st.builds(
        lambda method, target, wish: request("method", method=method, target=target, body=wish),
        st.sampled_from([*METHODS, *STRANGE]),
        target,
        WISHES.map(encoded),
    )


def versions() -> st.SearchStrategy[Attack]:
    """Other versions of HTTP, and none."""
    names = b"HTTP/1.0 HTTP/1.2 HTTP/2.0 HTTP/9.9 HTTP/1.1.1 http/1.1 HTTP/ ICY HTTP/1.x".split()
    versioned = st.builds(
        lambda version, wish: request("version", version=version, body=wish),
        st.sampled_from([*names, b""]),
        WISHES.map(encoded),
    )
    bare = st.sampled_from(
        [
            b"GET /polls/besieged\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\r\n\r\n\r\nGET /\r\n\r\n",
        ]
    )
    return versioned | bare.map(lambda sent: Attack("version", sent, answers=0))


def framings() -> st.SearchStrategy[Attack]:
    """Lengths and codings that contradict each other, so that two readers see two requests."""

    def build(lines: tuple[bytes, ...], chunk: Callable[[bytes], bytes], wish: bytes) -> Attack:
        head = [b"POST /polls/besieged/votes HTTP/1.1", b"Host: localhost", *lines]
        hidden = b"GET /polls/besieged/results HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        return Attack("framing", b"\r\n".join([*head, b"", chunk(wish)]) + hidden, answers=0)

    return st.builds(build, FRAMINGS, st.sampled_from(CHUNKINGS), WISHES.map(encoded))


def pipelines() -> st.SearchStrategy[Attack]:
    """Several requests at once, before the first is answered."""

    def join(attacks: list[Attack]) -> Attack:
        *first, last = attacks
        sent = [attack.sent.replace(b"Connection: close\r\n", b"", 1) for attack in first]
        bodies = tuple(body for attack in attacks for body in attack.bodies)
        return Attack("pipeline", b"".join([*sent, last.sent]), len(attacks), bodies)

    page = st.sampled_from([b"GET", b"HEAD", b"DELETE"]).map(
        lambda method: request("read", method=method, target=b"/polls/besieged/results")
    )
    return st.lists(WISHES.map(vote) | page, min_size=2, max_size=12).map(join)


def truncated() -> st.SearchStrategy[Attack]:
    """Somebody hangs up in the middle of a request."""
    whole = st.one_of(votes(), bodies(), headers(), targets())
    return st.builds(
        lambda attack, share: Attack(
            "truncated", attack.sent[: round(share * len(attack.sent))], answers=0
        ),
        whole,
        st.floats(0.0, 0.999),
    )


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def noise() -> st.SearchStrategy[Attack]:
    """No HTTP at all."""
    spoken = st.sampled_from(
        [HELLO + b"\x00" * 512, b"stats\r\n", b"\r\n" * 1000, b"\x00" * 10_000]
    )
    sent = spoken | st.binary(max_size=300)
    return sent.map(lambda sent: Attack("noise", sent, answers=0))


ATTACKS: dict[str, Callable[[], st.SearchStrategy[Attack]]] = {
    "vote": votes,
    "body": bodies,
    "target": targets,
    "header": headers,
    "form": forms,
    "page": pages,
    "method": methods,
    "version": versions,
    "framing": framings,
    "pipeline": pipelines,
    "truncated": truncated,
    "noise": noise,
}


def batches(size: int) -> st.SearchStrategy[list[Attack]]:
    """So many attacks of any kind, one behind the other."""
    each = st.sampled_from(sorted(ATTACKS)).flatmap(lambda kind: ATTACKS[kind]())
    return st.lists(each, min_size=size, max_size=size)
