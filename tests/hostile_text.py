"""Pieces of hostile requests: names, bodies, lines and codings that have broken somebody's site.

Most carry MARKER in what a voter chooses, by which it is found again where it must not be.
"""

import itertools
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from hypothesis import strategies as st

MARKER = "ZQmarkerQZ"  # no poll can be called so; voters can
POLL = "besieged"
ONCE = "besieged-once"
GENERATED = "generated"  # for who cannot say afterwards which of its votes were acknowledged
MAX_CHOICES = 100

COMMANDS = (
    "set pwned 0 0 5\r\nhello\r\n",
    "\r\nset pwned 0 0 5\r\nhello\r\n",
    "v1\r\nflush_all\r\n",
    "v1 1 0\r\ndelete canary\r\n",
    "v1\r\nms pwned 5\r\nhello\r\nmn\r\n",
    "\nverbosity 1\r\n",
    "v1\rmd canary\r",
    "v1 noreply\r\nshutdown\r\n",
)
SQL = (
    "x'OR'1'='1",
    "');DROP/**/TABLE/**/pollstorm_ballots;--",
    "'/**/UNION/**/SELECT/**/user,password/**/FROM/**/mysql.user#",
    "1;DELETE/**/FROM/**/pollstorm_polls",
    "\\';UPDATE/**/pollstorm_ballots/**/SET/**/choice=1;--",
    "%s%s%s%(x)s{0}",
    "x'),(1,'besieged',1,'y')--",
)
OTHER = (
    "",
    " ",
    "..",
    "../../../../etc/passwd",
    "a\x00b",
    "é",
    "€",
    "\u202evoter",
    "\ud800",
    "\x7f",
    "\t",
    "\r\nX-Injected: yes\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "%0d%0aX-Injected:%20yes",
    "${jndi:ldap://127.0.0.1/x}",
    "{{7*7}}",
    "<script>alert(1)</script>",
    "v" * 64,
    "v" * 65,
    "v" * 250,
    "v" * 3000,
)
EVIL = st.sampled_from([*COMMANDS, *SQL, *OTHER])
TEXT = st.builds("{}{}".format, st.sampled_from([MARKER, ""]), EVIL | st.text(max_size=80))
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
VOTERS = VISIBLE | st.sampled_from([*SQL, MARKER, "v" * 64, f"{MARKER}{'~' * 54}"])
CHOICES = st.integers(1, MAX_CHOICES)
IDS = st.integers(1, 2**64 - 1).map("{:016x}".format)


def encoded(value: Any) -> bytes:
    """As JSON; lone surrogates stay as escapes, and text stays as it is otherwise."""
    text = json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def percent(text: str) -> bytes:
    """Every byte percent-encoded."""
    return b"".join(b"%%%02x" % byte for byte in text.encode("utf-8", "surrogatepass"))


_ids = itertools.count(0xBB << 48)


def wish(voter: str = "v1") -> dict[str, Any]:
    """A vote with an id that no other has."""
    return {"vote": f"{next(_ids):016x}", "choice": 7, "voter": voter}


WISHES = st.fixed_dictionaries({"vote": IDS, "choice": CHOICES, "voter": VOTERS})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
FIELDS = st.fixed_dictionaries(
    {"vote": IDS | JSON, "choice": st.integers(-1, 101) | JSON, "voter": VOTERS | JSON},
    optional={"poll": TEXT, "__class__": TEXT},
)
NUMBERS = st.sampled_from(
    [
        b"1e400",
        b"-1",
        b"1" * 400,
        b"1.0",
        b"1e0",
        b"0x1",
        b"NaN",
        b"Infinity",
        b"-0",
        b"01",
        b"1" * 4000,
    ]
)
DEPTHS = st.sampled_from([10, 500, 1000, 4000, 100_000])
NESTED = st.builds(
    lambda depth, ends, field: field % (ends[0] * depth + b"1" + ends[1] * depth),
    DEPTHS,
    st.sampled_from([(b"[", b"]"), (b'{"a":', b"}"), (b"[", b"")]),
    st.sampled_from([b"%s", b'{"x":%s}', b'{"voter":%s,"choice":1,"vote":"00000000000000a1"}']),
)
RAW_FIELDS = st.sampled_from(
    [
        b'"v1","voter":"%s"' % MARKER.encode(),
        b'"\xff\xfe%s"' % MARKER.encode(),
        b'"\xc0\x80"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'"\\ud800\\udc00"',
        b'"\\u0000"',
        b'"\\u000d\\u000aflush_all"',
        b'"a\\nb"',
        b'"a\nb"',
        b'"\\x41"',
        b'"unfinished',
        b'"v1"}{"voter":"v2"',
        b'"v1"}\x00',
    ]
)
SIZES = st.sampled_from([4095, 4096, 4097, 65_536, 1 << 20])
WRAPPINGS: tuple[Callable[[bytes], bytes], ...] = (
    lambda body: b"\xef\xbb\xbf" + body,
    lambda body: body.decode("utf-8", "ignore").encode("utf-16"),
    lambda body: body * 2,
    lambda body: body[: len(body) // 2],
    lambda body: body + b"\r\n" * 100,
)


LINES = st.sampled_from(
    [
        b"Host: evil.example",
        b"Host:",
        b"Host: a b",
        b"Host: \xff",
        b"X-Forwarded-For: 127.0.0.1, %s" % MARKER.encode(),
        b"X-Forwarded-Host: evil.example",
        b"X-Original-URL: /metrics",
        b"X-HTTP-Method-Override: DELETE",
        b"Expect: 100-continue",
        b"Expect: a miracle",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\nHTTP2-Settings: AAA",
        b"Upgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13",
        b"Cookie: voter=%s; ; =; a" % MARKER.encode(),
        b"Cookie: " + b"a=b; " * 2000,
        b"Accept: " + b"text/html;q=0.1," * 1000,
        b"Accept: */\xff;q=nan",
        b"Accept: text/html;q=1e999, application/json;q=-1",
        b"Accept-Language: %s" % MARKER.encode(),
        b"Range: bytes=0-,-1",
        b"If-None-Match: *",
        b"Origin: null",
        b"Referer: javascript:alert(1)",
        b"Authorization: Basic %s" % MARKER.encode(),
        b"X-Long: " + b"x" * 30_000,
        b"X-Longer: " + b"x" * 500_000,
        b"X-" + b"n" * 5000 + b": v",
        b"\r\n".join(b"X-Many-%d: v" % number for number in range(90)),
        b"\r\n".join(b"X-More-%d: v" % number for number in range(300)),
        b"X-Folded: a\r\n b",
        b"X-Folded: a\r\n\tX-Injected: yes",
        b" X-Leading: space",
        b"X-Trailing : space",
        b"No colon here",
        b": no name",
        b"X-Nul: a\x00b",
        b"X-Bare: a\rb",
        b"X-Feed: a\nX-Injected: yes",
        b"X-High: \xff\xfe",
        b"(x): bad name",
        b"Wsgi.Input: x",
        b"Content_Length: 5",
        b"Content-Length : 5",
        b"Proxy: http://127.0.0.1:1",
    ]
)


FRAMINGS = st.sampled_from(
    [
        (b"Content-Length: 10", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 4"),
        (b"Transfer-Encoding: chunked, chunked",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        (b"Transfer-Encoding: identity",),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: \x0bchunked",),
        (b"Transfer-Encoding:\tchunked",),
        (b"Transfer-Encoding : chunked",),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Content-Length: 10", b"Content-Length: 11"),
        (b"Content-Length: 10, 10",),
        (b"Content-Length: +10",),
        (b"Content-Length: -1",),
        (b"Content-Length: 0x10",),
        (b"Content-Length: 1e1",),
        (b"Content-Length: 18446744073709551616",),
        (b"Content-Length: 99999999999",),
        (b"Content-Length: ten",),
        (b"Content-Length:",),
        (b"Content-Length: 0",),
        (),
    ]
)
CHUNKINGS: tuple[Callable[[bytes], bytes], ...] = (
    lambda body: b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
    lambda body: b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n",
    lambda body: b"%x;evil=%s\r\n%s\r\n0\r\nX-Trailer: yes\r\n\r\n" % (len(body), body[:9], body),
    lambda body: b"%x\n%s\n0\n\n" % (len(body), body),
    lambda body: b"ffffffffffffffff\r\n" + body,
    lambda body: b"fffffffffffffffff\r\n" + body,
    lambda body: b"-1\r\n" + body,
    lambda body: b"zz\r\n" + body,
    lambda body: b"0\r\n\r\n" + body,
    lambda body: b"%x;%s\r\n%s\r\n0\r\n\r\n" % (len(body), b"x" * 20_000, body),
    lambda body: body,
)

COOKIE = b"@voter@"  # stands for a cookie that the site gave us
PAPERS = st.integers(1 << 63, 2**64 - 1).map("{:016x}".format)
PAPER = st.fixed_dictionaries({"vote": PAPERS, "choice": CHOICES.map(str)})
FORMS = st.one_of(
    PAPER.map(urlencode),
    PAPER.map(urlencode),
    PAPER.map(urlencode),
    st.fixed_dictionaries(
        {}, optional={"vote": PAPERS | IDS | TEXT, "choice": TEXT, "voter": TEXT, MARKER: TEXT}
    ).map(lambda fields: urlencode(fields, errors="surrogatepass")),
    st.builds("{}&{}".format, PAPER.map(urlencode), PAPER.map(urlencode)),
    st.sampled_from(
        [
            "",
            "&&&&;=;=%",
            "vote=%ff&choice=%00",
            "vote=8000000000000000&choice=%2b1",
            "vote=8000000000000000&choice=1%0d%0aSet-Cookie:%20x=y",
            "vote=8000000000000000&choice=\u0661",
            "a=b&" * 900,
        ]
    ),
)
COOKIES = st.just(COOKIE) | st.sampled_from(
    [
        COOKIE + b"x",
        b"x" + COOKIE,
        COOKIE.replace(b"@", b'"'),
        b"web-%s.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" % MARKER.encode(),
        b"%s.%s" % (MARKER.encode(), MARKER.encode()),
        b"web-x. ; pollstorm-voter=" + COOKIE,
        b"\xff.\xff",
        b".",
        b"." * 5000,
        b'"' + b'\\"' * 7000 + b'"',
        b"x; pollstorm-told=stored.7",
        b"x; pollstorm-told=stored.\xb2",
        b"x; pollstorm-told=queued." + b"9" * 500,
        b"x; pollstorm-told=<b>" + MARKER.encode(),
    ]
)
ORIGINS = st.just(()) | st.sampled_from(
    [
        (b"Sec-Fetch-Site: same-origin",),
        (b"Sec-Fetch-Site: cross-site",),
        (b"Sec-Fetch-Site: \xff",),
        (b"Origin: http://localhost",),
        (b"Origin: http://[::1",),
        (b"Origin: null",),
        (b"Origin: http://" + MARKER.encode(),),
        (b"Content-Type: multipart/form-data; boundary=" + MARKER.encode(),),
        (b"Content-Type: application/x-www-form-urlencoded; charset=utf-7",),
    ]
)
TASTES = st.just(b"text/html") | st.sampled_from(
    [
        b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        b"text/html;q=1e999",
        b"text/html;q=-1, application/json;q=nan",
        b"text/" + MARKER.encode(),
        b"text/html;" + b"a=b;" * 500,
        b"text/\xff",
        b"text/html/html",
    ]
)
