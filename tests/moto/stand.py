"""What moto's own tests need of a server, put before an `envol kms serve` that knows nothing of them.

moto's tests expect an empty KMS at each `POST /moto-api/reset`, and sign with keys that nobody issued. So a reset stops the
KMS and starts another with a state directory of its own, and every other request is signed again, with an access key that
this KMS issued to its root user, and passed on as it is. The answers are not touched.

usage: stand.py ENVOL    prints the port it serves on, on 127.0.0.1
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ACCOUNT = "123456789012"
START_DEADLINE = 30


class Kms:
    """One `envol kms serve` in a directory of its own."""

    def __init__(self, program):
        self.dir = tempfile.mkdtemp(prefix="envol-moto-")
        config = os.path.join(self.dir, "envol.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'account = "{ACCOUNT}"\n')
        self.socket = os.path.join(self.dir, "kms.sock")
        places = ["--state-dir", self.dir, "--socket", os.path.join(self.dir, "control.sock"), "--config", config]
        self.log = open(os.path.join(self.dir, "log"), "wb")
        serve = [program, "kms", "serve", "--listen", self.socket, *places]
        self.process = subprocess.Popen(serve, stderr=self.log, stdout=self.log)
        issued = self.issue([program, "kms", "access-key", "create", "--user", "root", "--json", *places])
        self.credentials = Credentials(issued["access_key_id"], issued["secret_access_key"])

    def issue(self, command):
        deadline = time.monotonic() + START_DEADLINE
        while True:
            made = subprocess.run(command, capture_output=True, check=False)
            if made.returncode == 0:
                return json.loads(made.stdout)
            if made.returncode != 10 or self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no KMS: {made.stderr.decode()}")
            time.sleep(0.02)

    def ask(self, headers, body, region):
        """The answer to `body`, signed again."""
        wanted = {name: headers[name] for name in ("X-Amz-Target", "Content-Type") if headers[name]}
        request = AWSRequest("POST", "http://127.0.0.1/", data=body, headers={**wanted, "Host": "127.0.0.1"})
        SigV4Auth(self.credentials, "kms", region).add_auth(request)
        connection = http.client.HTTPConnection("127.0.0.1")
        connection.sock = self.connect()
        connection.request("POST", "/", body, dict(request.headers.items()))
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), text

    def connect(self):
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(self.socket)
        return stream

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir)


class Stand(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    program = None
    kms = None
    lock = threading.Lock()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/moto-api/"):
            if self.path == "/moto-api/reset":
                self.reset()
            return self.answer(200, [], b'{"status": "ok"}')
        scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/kms/", self.headers.get("Authorization", ""))
        if not scope:
            return self.answer(400, [], b'{"__type": "NotKms", "message": "only the KMS is served here"}')
        with self.lock:
            return self.answer(*Stand.kms.ask(self.headers, body, scope.group(1)))

    def reset(self):
        with self.lock:
            Stand.kms.stop()
            Stand.kms = Kms(Stand.program)

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers:
            if name.lower() in ("content-type", "x-amzn-requestid"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST
    do_PUT = do_POST

    def log_message(self, *_):
        pass


def main():
    # SystemExit comes by the `finally` that stops the KMS.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Stand.program = os.path.abspath(sys.argv[1])
    Stand.kms = Kms(Stand.program)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stand)
    print(server.server_address[1], flush=True)
    try:
        server.serve_forever()
    finally:
        Stand.kms.stop()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
