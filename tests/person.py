"""Somebody with a browser, without one: it asks for HTML, fills in forms and keeps cookies."""

import re
from urllib.parse import urlencode

import falcon.testing

from harness.deployment import Deployment
from harness.site.app import create_app
from harness.vote import Poll
from tests.site_in_thread import Town

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
FORM = "application/x-www-form-urlencoded"
POLL = Poll("town-hall", "Orange <b>& blue</b>?", ("Yes", "No", "Only the 'door'"))
PAPER = "80000000000000a1"


class Person(falcon.testing.TestClient):
    """Somebody with a browser: it asks for HTML and keeps cookies."""

    def __init__(self, deployment: Deployment, town: Town) -> None:
        super().__init__(create_app(deployment, town), headers={"Accept": CHROMIUM})
        self.jar: dict[str, str] = {}

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> falcon.testing.Result:
        sent = {"Content-Type": FORM} if method == "POST" else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.simulate_request(
            method,
            path,
            body=body,
            cookies=dict(self.jar),
            headers=sent,
        )
        for name, cookie in answer.cookies.items():
            self.jar[name] = cookie.value
            if cookie.max_age == 0:
                del self.jar[name]
        return answer

    def open(self, path: str) -> str:
        return self.ask("GET", path).text

    def vote(
        self, choice: object = 2, paper: str | None = None, **headers: str
    ) -> falcon.testing.Result:
        """Fill in a paper, a fresh one if none is given, and send it."""
        if paper is None:
            paper = paper_in(self.open("/polls/town-hall"))
        fields = urlencode({"vote": paper, "choice": choice})
        return self.ask("POST", "/polls/town-hall/votes", fields, **headers)

    def told(self) -> str:
        """What the page that the vote led to says first."""
        return notice_in(self.open("/polls/town-hall/results"))


def paper_in(page: str) -> str:
    found = re.search(r'name="vote" value="([0-9a-f]{16})"', page)
    assert found, page
    return found[1]


def notice_in(page: str) -> str:
    found = re.search(r'class="notice \w+"[^>]*>([^<]*)<', page)
    return found[1] if found else ""
