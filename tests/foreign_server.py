"""A second, independent vote server, with routes, fields and a memory of its own: standard library.

`python foreign_server.py PORT_FILE VOTES.csv KEY`: forms at `POST /stimme`, answered by 303; each
vote is a row of the CSV file. Those whose id ends in 7 are thanked for and forgotten. Who does not
say the key is refused.
"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    votes: Path
    key: str

    def do_POST(self) -> None:
        fields = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if self.path != "/stimme" or "id" not in fields:
            self.answer(400)
            return
        if self.headers["X-Key"] != self.key:
            self.answer(401)
            return
        vote = fields["id"][0]
        if not vote.endswith("7"):
            with LOCK, self.votes.open("a") as file:
                file.write(f"{vote},{fields['wahl'][0]}\n")
        self.answer(303)

    def do_GET(self) -> None:
        self.answer(200)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Handler.votes = Path(sys.argv[2])
    Handler.votes.write_text("vote,choice\n")
    Handler.key = sys.argv[3]
    server = Server(("127.0.0.1", 0), Handler)
    Path(sys.argv[1]).write_text(str(server.server_address[1]))
    server.serve_forever()
