"""What every answer tells browsers: to keep nothing, guess nothing, and show it in no frame."""

from typing import Final

import falcon

ALWAYS: Final = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "vary": "Accept",  # an address has JSON for programs and a page for people
    # Not no-referrer: browsers would hide from us that a form came from our own page.
    "referrer-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


class Response(falcon.Response):
    """An answer; what shows a page allows it more."""

    def __init__(self, options: falcon.ResponseOptions | None = None) -> None:
        super().__init__(options)
        self.set_headers(ALWAYS)
