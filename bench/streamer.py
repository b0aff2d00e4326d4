"""Fills the road between two VMs with TCP or UDP, or empties it, and says how much came through: a program.

It runs inside a VM's namespace; sender and receiver are plain sockets, so the kernels of both VMs are in the numbers,
as they are for everybody. What counts is what arrives.

    streamer.py sink ADDRESS PORT           until its input ends; a line of JSON for each stream that ended
    streamer.py tcp ADDRESS PORT SECONDS    one connection, as fast as it goes
    streamer.py udp ADDRESS PORT SECONDS BYTES    datagrams of that size, as fast as they can be sent

The sink says `ready`, then for each TCP connection, and for each burst of datagrams that is followed by half a second
of silence: {"protocol", "packets" (0 for TCP), "bytes", "seconds"}, the seconds from the first piece to the last. A
sender says {"packets", "bytes", "seconds", "retransmits"} of what it sent. A sender of 0 seconds sends one piece.
"""

import contextlib
import json
import os
import select
import socket
import struct
import sys
import time

PIECE = 1 << 18
SILENCE_S = 0.5
TCP_INFO_RETRANSMITS = 100
"""Where tcp_info has tcpi_total_retrans (linux/tcp.h)."""


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def empty_connection(connection: socket.socket) -> None:
    """Read a connection to its end."""
    buffer, size, first, last = bytearray(PIECE), 0, 0.0, 0.0
    with contextlib.suppress(ConnectionError):
        while got := connection.recv_into(buffer):
            last = time.monotonic()
            first = first or last
            size += got
    connection.close()
    say(protocol="tcp", packets=0, bytes=size, seconds=last - first)


def empty_burst(datagrams: socket.socket) -> None:
    """Read datagrams until there are none for half a second."""
    buffer, size, count = bytearray(2048), 0, 0
    datagrams.settimeout(SILENCE_S)
    first = last = time.monotonic()
    try:
        while True:
            size += datagrams.recv_into(buffer)
            count += 1
            if not count & 15:  # the clock costs as much as a packet
                last = time.monotonic()
    except TimeoutError:
        last = max(last, time.monotonic() - SILENCE_S)
    say(protocol="udp", packets=count, bytes=size, seconds=last - first)


def sink(address: str, port: int) -> None:
    listener = socket.create_server((address, port))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    datagrams.bind((address, port))
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listener, datagrams, sys.stdin], [], [])
        if listener in ready:
            empty_connection(listener.accept()[0])
        if datagrams in ready:
            empty_burst(datagrams)
        if sys.stdin in ready and not os.read(sys.stdin.fileno(), 1):
            return


def fill_tcp(address: str, port: int, seconds: float) -> None:
    connection = socket.create_connection((address, port), timeout=10.0)
    piece, size, began = bytes(PIECE if seconds else 1000), 0, time.monotonic()
    while True:
        connection.sendall(piece)
        size += len(piece)
        if time.monotonic() - began >= seconds:
            break
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    retransmits = struct.unpack_from("I", info, TCP_INFO_RETRANSMITS)[0]
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(1):
        pass
    say(packets=0, bytes=size, seconds=time.monotonic() - began, retransmits=retransmits)


def fill_udp(address: str, port: int, seconds: float, length: int) -> None:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.connect((address, port))
    piece, count, began = bytes(length), 0, time.monotonic()
    while True:
        for _ in range(16 if seconds else 1):
            with contextlib.suppress(OSError):  # its queue is full, or nobody listens: as lost as any other
                datagrams.send(piece)
            count += 1
        if time.monotonic() - began >= seconds:
            break
    say(packets=count, bytes=count * length, seconds=time.monotonic() - began, retransmits=0)


def main(words: list[str]) -> None:
    mode, address, port = words[0], words[1], int(words[2])
    if mode == "sink":
        sink(address, port)
    elif mode == "tcp":
        fill_tcp(address, port, float(words[3]))
    else:
        fill_udp(address, port, float(words[3]), int(words[4]))


if __name__ == "__main__":
    main(sys.argv[1:])
