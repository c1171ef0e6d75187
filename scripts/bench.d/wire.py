"""A bare NBD client, for what fio and nbdcopy cannot do: FUA, and to ask without reading the answers."""

import os
import random
import select
import socket
import struct
import time

from console import NotMeasured

OPTION_MAGIC, REPLY_MAGIC = 0x49484156454F5054, 0x0003E889045565A9
OPT_GO, REP_ACK, REP_INFO = 7, 1, 3
READ, WRITE, DISC, FUA = 0, 1, 2, 1
REQUEST, SIMPLE_REPLY = struct.Struct(">IHHQQI"), struct.Struct(">IIQ")


def receive(link, count):
    """Exactly `count` bytes."""
    taken = bytearray()
    while len(taken) < count:
        piece = link.recv(count - len(taken))
        if not piece:
            raise NotMeasured("the server closed the connection")
        taken += piece
    return bytes(taken)


def request(command, cookie, offset, length, flags=0):
    return REQUEST.pack(0x25609513, flags, command, cookie, offset, length)


class Client:
    """One connection past its handshake (simple replies), with the socket open to whoever writes requests of his own."""

    def __init__(self, socket_path, export):
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.link.settimeout(20)
        self.link.connect(str(socket_path))
        receive(self.link, 18)
        name = export.encode()
        ask = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
        self.link.sendall(struct.pack(">I", 3) + struct.pack(">QII", OPTION_MAGIC, OPT_GO, len(ask)) + ask)
        while True:
            magic, _, kind, length = struct.unpack(">QIII", receive(self.link, 20))
            text = receive(self.link, length)
            if magic != REPLY_MAGIC or kind not in (REP_ACK, REP_INFO):
                raise NotMeasured(f"the handshake was refused: {text.decode(errors='replace')}")
            if kind == REP_ACK:
                return
            if struct.unpack(">H", text[:2])[0] == 0:
                self.size = struct.unpack(">Q", text[2:10])[0]

    def read(self, offset, length):
        """One READ, answered."""
        self.link.sendall(request(READ, 1, offset, length))
        _, error, _ = SIMPLE_REPLY.unpack(receive(self.link, SIMPLE_REPLY.size))
        if error:
            raise NotMeasured(f"READ was answered with error {error}")
        return receive(self.link, length)

    def discard_answers(self, count, length, deadline):
        """Takes `count` answers to READs of `length` bytes off the wire; how many errors were among them."""
        buffer, errors = bytearray(length), 0
        for _ in range(count):
            self.link.settimeout(max(0.1, deadline - time.monotonic()))
            _, error, _ = SIMPLE_REPLY.unpack(receive(self.link, SIMPLE_REPLY.size))
            errors += bool(error)
            view = memoryview(buffer)[: 0 if error else length]
            while view:
                taken = self.link.recv_into(view)
                if not taken:
                    raise NotMeasured("the server closed the connection")
                view = view[taken:]
        return errors

    def close(self):
        try:
            self.link.settimeout(1)
            self.link.sendall(request(DISC, 0, 0, 0))
        except OSError:
            pass
        self.link.close()


def durable_writes(socket_path, export, connections, seconds, length=4096):
    """Random WRITEs with FUA, one at a time on each connection: how many a second, and how long each took.

    All that can be done before the clock runs is done then: this client is no part of what is measured.
    """
    payload = os.urandom(length)
    clients = [Client(socket_path, export) for _ in range(connections)]
    places = clients[0].size // length
    writes = [request(WRITE, 7, random.randrange(places) * length, length, FUA) + payload for _ in range(2048)]
    taken = []
    try:
        started = time.perf_counter()
        (one_by_one if connections == 1 else in_turn)([client.link for client in clients], writes, started + seconds, taken)
        passed = time.perf_counter() - started
    finally:
        for client in clients:
            client.link.close()
    if not taken:
        raise NotMeasured("no WRITE with FUA was answered")
    taken.sort()
    return {
        "iops": len(taken) / passed, "requests": len(taken), "bytes_per_s": len(taken) * length / passed,
        "p50_us": taken[len(taken) // 2] * 1e6, "p99_us": taken[int(len(taken) * 0.99)] * 1e6,
    }


def acknowledged(answer):
    """Whether these are the bytes of one reply, and it reports no error."""
    return len(answer) == SIMPLE_REPLY.size and not any(answer[4:8])


def one_by_one(links, writes, end, taken):
    link, now = links[0], time.perf_counter
    link.setblocking(True)
    sent = now()
    while sent < end:
        for write in writes:
            link.sendall(write)
            if not acknowledged(link.recv(SIMPLE_REPLY.size)):
                raise NotMeasured("a WRITE with FUA was not acknowledged")
            answered = now()
            taken.append(answered - sent)
            sent = answered
            if sent >= end:
                return


def in_turn(links, writes, end, taken):
    by_descriptor, sent_at, now = {link.fileno(): link for link in links}, {}, time.perf_counter
    poll, number = select.epoll(), 0
    try:
        for descriptor, link in by_descriptor.items():
            poll.register(descriptor, select.EPOLLIN)
            sent_at[descriptor] = now()
            link.sendall(writes[descriptor % len(writes)])
        while now() < end:
            for descriptor, _ in poll.poll(5):
                link = by_descriptor[descriptor]
                if not acknowledged(link.recv(SIMPLE_REPLY.size)):
                    raise NotMeasured("a WRITE with FUA was not acknowledged")
                answered = now()
                taken.append(answered - sent_at[descriptor])
                sent_at[descriptor], number = answered, (number + 1) % len(writes)
                link.sendall(writes[number])
    finally:
        poll.close()
