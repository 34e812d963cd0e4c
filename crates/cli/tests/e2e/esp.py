"""Speaks ESP with AES-128-GCM (RFC 4303, RFC 4106) in transport mode, for kernels that do not.

esp.py serve ADDRESS PORT          answers what is genuine
esp.py talk ADDRESS PORT TEXT      sends datagrams with the text, and prints each as it was on the wire

PORT 0 is ESP itself, any other ESP inside UDP (RFC 3948). Every packet is authenticated and decrypted;
one that is not what it should be ends the program.
"""

import os
import socket
import struct
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ESP, UDP = 50, 17
# By the direction: SPI, key and salt.
FORTH = (0x1001, bytes(range(16)), b"salt")
BACK = (0x2002, bytes(range(16, 32)), b"pepr")
SIZES = [1, 8, 60, 200, 512, 1000, 1300]


def sealed(association, sequence, plain):
    spi, key, salt = association
    head = struct.pack("!II", spi, sequence)
    vector = os.urandom(8)
    padding = -(len(plain) + 2) % 4
    trailer = bytes(range(1, padding + 1)) + bytes([padding, UDP])
    return head + vector + AESGCM(key).encrypt(salt + vector, plain + trailer, head)


def opened(association, packet):
    spi, key, salt = association
    head, vector = packet[:8], packet[8:16]
    number, sequence = struct.unpack("!II", head)
    assert number == spi, f"SPI {number:x}"
    plain = AESGCM(key).decrypt(salt + vector, packet[16:], head)
    assert plain[-1] == UDP
    return sequence, plain[: -2 - plain[-2]]


class Wire:
    """The packets of one side, without IP and UDP headers."""

    def __init__(self, address, port):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.with_header = port == 0 and family == socket.AF_INET
        kind = (socket.SOCK_RAW, ESP) if port == 0 else (socket.SOCK_DGRAM, 0)
        self.socket = socket.socket(family, *kind)
        self.socket.settimeout(5)

    def receive(self):
        packet, peer = self.socket.recvfrom(65535)
        return packet[(packet[0] & 15) * 4 :] if self.with_header else packet, peer


def serve(address, port):
    wire = Wire(address, port)
    wire.socket.bind((address, port))
    wire.socket.settimeout(60)
    while True:
        packet, peer = wire.receive()
        sequence, plain = opened(FORTH, packet)
        wire.socket.sendto(sealed(BACK, sequence, plain[::-1]), peer)


def talk(address, port, text):
    wire = Wire(address, port)
    for sequence, size in enumerate(SIZES, 1):
        plain = (text * (size // len(text) + 1))[:size]
        packet = sealed(FORTH, sequence, plain)
        wire.socket.sendto(packet, (address, port))
        answer, _ = wire.receive()
        assert opened(BACK, answer) == (sequence, plain[::-1]), f"the answer to {sequence}"
        print(packet.hex(), answer.hex(), flush=True)


if sys.argv[1] == "serve":
    serve(sys.argv[2], int(sys.argv[3]))
else:
    talk(sys.argv[2], int(sys.argv[3]), sys.argv[4].encode())
