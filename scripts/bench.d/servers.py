"""The servers that are measured, each on a full volume of the same random bytes, in one directory: nbdkit on a plain file,
nbdkit with its luks filter, envol, envol with its null cipher where there is such a build, and the trial (examples/trial.rs),
which does only what no server can leave out."""

import json
import os
import shutil
import tempfile
import urllib.parse
from pathlib import Path

import machine
from console import NotMeasured, say
from load import fio
from processes import run, wait_for_socket

NULL_BUILD = Path("target/bench-null/release/envol")
TRIAL = Path("target/release/examples/trial")


class Daemon:
    """One envol daemon with a state directory of its own, and one KMS key."""

    def __init__(self, bench, place, name, binary=None, environment=None):
        self.bench, self.binary = bench, str(binary or bench.binary)
        self.directory = place.directory / name
        self.state = self.directory / "state"
        self.directory.mkdir()
        # A socket's path is short (108 bytes), a directory's need not be.
        self.run_directory = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=bench.run_directory))
        self.socket = self.run_directory / "control.sock"
        self.nbd_socket = self.run_directory / "nbd.sock"
        self.environment = {"ENVOL_STATE_DIR": str(self.state), "ENVOL_SOCKET": str(self.socket), **(environment or {})}
        self.log = self.directory / "log"
        self.process = None
        self.start()
        self.call("key", "create", "--alias", "bench")

    def start(self):
        self.process = self.bench.processes.start([self.binary, "daemon"], self.log, self.environment)
        wait_for_socket(self.socket, self.process, self.log)
        self.pid = self.process.pid

    def call(self, *words):
        """`envol` with these words."""
        return run([self.binary, *words], env={**os.environ, **self.environment})

    def attach(self, name, size, create=(), attach=()):
        """Makes a volume and attaches it, each with more options; its URI."""
        self.call("volume", "create", name, "--size", str(size), "--key", "alias/bench", *create)
        return self.call("attach", name, *attach).strip()

    def backing(self, name):
        return Path(json.loads(self.call("volume", "show", name, "--json"))["backing"])

    def end(self):
        """Stops it and removes what it kept."""
        self.bench.processes.stop(self.process)
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.rmtree(self.run_directory, ignore_errors=True)


class Server:
    """A full volume that is served: its name in the table, its URI, its process."""

    def __init__(self, name, uri, process, daemon=None):
        self.name, self.uri, self.process, self.pid, self.daemon = name, uri, process, process.pid, daemon
        parts = urllib.parse.urlsplit(uri)
        self.export, self.socket = parts.path[1:], urllib.parse.parse_qs(parts.query)["socket"][0]


class Place:
    """A directory on a file system, and the servers on it: each started when first asked for."""

    def __init__(self, bench, label, parent, size_bytes):
        self.bench, self.label, self.size_bytes = bench, label, size_bytes
        self.directory = Path(parent) / f"envol-bench.{os.getpid()}"
        self.file_system = machine.file_system(parent)
        self.known, self.kept = {}, {}

    @property
    def on_disk(self):
        return self.file_system not in ("tmpfs", "ramfs")

    def open(self):
        remove_left_behind(self.directory.parent)
        self.directory.mkdir(mode=0o700, exist_ok=True)

    def server(self, name):
        """The server called `name`; raises NotMeasured, each time, where it cannot be."""
        if name not in self.known:
            try:
                say(f"{self.label}: starting {name}, and filling its volume")
                self.known[name] = getattr(self, "start_" + name.replace(" ", "_"))()
            except NotMeasured as error:
                self.known[name] = error
        if isinstance(self.known[name], NotMeasured):
            raise self.known[name]
        return self.known[name]

    def plain_file(self):
        """The random bytes that every volume here is full of."""
        path = self.directory / "plain.img"
        if not path.exists():
            with open(path, "wb") as file:
                for _ in range(self.size_bytes >> 20):
                    file.write(os.urandom(1 << 20))
        return path

    def start_nbdkit(self, name, arguments):
        socket, log = self.bench.run_directory / f"{self.label}-{name}.sock", self.directory / f"{name}.log"
        process = self.bench.processes.start(["nbdkit", "-f", "-U", str(socket), *arguments], log)
        wait_for_socket(socket, process, log)
        return Server(name, f"nbd+unix:///?socket={socket}", process)

    def start_nbdkit_file(self):
        return self.start_nbdkit("file", ["file", str(self.plain_file())])

    def start_nbdkit_luks(self):
        """With as few rounds of key derivation as qemu-img manages to count: they are no part of what is measured."""
        secret, image = self.directory / "passphrase", self.directory / "luks.img"
        secret.write_text("secret")
        for milliseconds in (10, 20, 50, 100, 500):
            try:
                run(["qemu-img", "create", "-q", "-f", "luks", "--object", f"secret,id=s0,file={secret}", "-o",
                     f"key-secret=s0,cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64,iter-time={milliseconds}", str(image),
                     str(self.size_bytes)])
                break
            except NotMeasured as error:
                # "Unable to get accurate CPU usage": what it times was over too soon.
                if "CPU usage" not in str(error) or milliseconds == 500:
                    raise
        server = self.start_nbdkit("luks", ["file", str(image), "--filter=luks", f"passphrase=+{secret}"])
        run(["nbdcopy", str(self.plain_file()), server.uri])
        return server

    def start_trial_nothing(self):
        return self.start_trial("nothing", self.plain_file(), self.size_bytes)

    def start_trial_file(self):
        return self.start_trial("file", self.plain_file(), self.size_bytes)

    def start_trial_ring(self):
        return self.start_trial("ring", self.server("envol cold").daemon.backing("v"), self.bench.cold_bytes)

    def start_trial_direct(self):
        return self.start_trial("direct", self.server("envol cold").daemon.backing("v"), self.bench.cold_bytes)

    def start_trial(self, way, file, size):
        if not TRIAL.exists():
            raise NotMeasured("there is no build of the example trial")
        socket, log = self.bench.run_directory / f"{self.label}-{way}.sock", self.directory / f"trial-{way}.log"
        process = self.bench.processes.start([str(TRIAL), str(socket), str(file), "0", str(size), way], log)
        wait_for_socket(socket, process, log)
        return Server(f"trial {way}", f"nbd+unix:///?socket={socket}", process)

    def start_envol(self):
        return self.start_daemon("envol", self.bench.binary, {})

    def start_envol_null(self):
        if not NULL_BUILD.exists():
            raise NotMeasured("there is no build with the feature bench-null")
        return self.start_daemon("null", NULL_BUILD, {"ENVOL_CIPHER": "null"})

    def start_daemon(self, name, binary, environment):
        daemon = Daemon(self.bench, self, name, binary, environment)
        uri = daemon.attach("v", self.size_bytes)
        run(["nbdcopy", str(self.plain_file()), uri])
        if name == "null" and not self.plain_bytes_at_rest(daemon):
            daemon.end()
            raise NotMeasured("ENVOL_CIPHER=null does not give the null cipher: the backing does not hold what was written")
        return Server(name, uri, daemon.process, daemon)

    def plain_bytes_at_rest(self, daemon):
        """Whether the backing of the null cipher's volume holds what was written: only then is it what it says."""
        with open(daemon.backing("v"), "rb") as file, open(self.plain_file(), "rb") as plain:
            return plain.read(4096) in file.read(64 << 20)

    def start_envol_cold(self):
        """envol on a volume larger than what one run reads."""
        return self.start_large("cold")

    def start_envol_cold_direct(self):
        return self.start_large("direct", direct=True)

    def start_large(self, name, direct=False):
        daemon = Daemon(self.bench, self, name)
        size = self.bench.cold_bytes
        try:
            uri = daemon.attach("v", size, attach=("--direct",) if direct else ())
            fio([{"ioengine": "nbd", "uri": uri, "rw": "write", "bs": "1M", "iodepth": 4, "size": size, "refill_buffers": None}], {})
        except NotMeasured:
            daemon.end()
            raise
        return Server("envol", uri, daemon.process, daemon)

    def close(self):
        servers = [server for server in self.known.values() if isinstance(server, Server)]
        for daemon in [*self.kept.values(), *(server.daemon for server in servers if server.daemon)]:
            daemon.end()
        for server in servers:
            self.bench.processes.stop(server.process)
        self.known, self.kept = {}, {}
        shutil.rmtree(self.directory, ignore_errors=True)


def remove_left_behind(parent):
    """Removes directories of runs that were killed: they are large, and hold nothing."""
    for path in Path(parent).glob("envol-bench.*"):
        number = path.name.rpartition(".")[2]
        if number.isdigit() and not Path(f"/proc/{number}").exists():
            shutil.rmtree(path, ignore_errors=True)
