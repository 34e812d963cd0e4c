#!/usr/bin/env python3
"""Makes the vectors of the session layer (docs/wire.md, section 11) with Python's standard library.

It shares no code with the Rust crates. AES is that of tools/golden-vectors.py; GCM is written here from
NIST SP 800-38D, and held against a test case of that document's authors.

    tools/session-vectors.py            write crates/crypto/vectors/session.txt
    tools/session-vectors.py --check    fail if what is there differs
"""

import hashlib
import hmac
import importlib.util
import pathlib
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE = ROOT / "crates" / "crypto" / "vectors" / "session.txt"
SUITES = ["hmac-sha256-128", "aes-cbc-128", "aes-cbc-256", "aes-gcm-256"]
LENGTHS = [0, 1, 7, 15, 16, 17, 32, 63, 64, 100, 576, 1400]
ASSOCIATED = [0, 12, 24, 52]


def other_program():
    spec = importlib.util.spec_from_file_location("golden_vectors", ROOT / "tools" / "golden-vectors.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


AES = other_program()


# ---- AES with 128-bit keys (FIPS 197), beside the 256-bit ones of the other program

def round_keys(key):
    if len(key) == 32:
        return AES.aes256_round_keys(key)
    words, rcon = [list(key[i:i + 4]) for i in range(0, 16, 4)], 1
    for i in range(4, 44):
        word = list(words[i - 1])
        if i % 4 == 0:
            word = [AES.SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= rcon
            rcon = (rcon << 1) ^ (0x11B if rcon & 0x80 else 0)
        words.append([a ^ b for a, b in zip(words[i - 4], word)])
    return [sum(words[i:i + 4], []) for i in range(0, 44, 4)]


def mix(column):
    def double(a):
        return ((a << 1) ^ 0x1B) & 0xFF if a & 0x80 else a << 1
    every = column[0] ^ column[1] ^ column[2] ^ column[3]
    return [column[i] ^ every ^ double(column[i] ^ column[(i + 1) % 4]) for i in range(4)]


def block(keys, clear):
    last = len(keys) - 1
    state = [a ^ b for a, b in zip(clear, keys[0])]
    for number in range(1, last + 1):
        state = [AES.SBOX[b] for b in state]
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]
        if number != last:
            state = sum((mix(state[c:c + 4]) for c in range(0, 16, 4)), [])
        state = [a ^ b for a, b in zip(state, keys[number])]
    return bytes(state)


# FIPS 197, appendices B and C
assert block(round_keys(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")),
             bytes.fromhex("3243f6a8885a308d313198a2e0370734")).hex() == "3925841d02dc09fbdc118597196a0b32"


def cbc(key, iv, clear):
    padding = 16 - len(clear) % 16
    clear += bytes([padding]) * padding
    keys, last, out = round_keys(key), iv, b""
    for i in range(0, len(clear), 16):
        last = block(keys, [a ^ b for a, b in zip(clear[i:i + 16], last)])
        out += last
    return out


# ---- GCM (NIST SP 800-38D)

def multiply(x, y):
    product = 0
    for i in range(127, -1, -1):
        if y >> i & 1:
            product ^= x
        x = x >> 1 ^ (0xE1 << 120 if x & 1 else 0)
    return product


def ghash(h, data):
    digest = 0
    for i in range(0, len(data), 16):
        digest = multiply(digest ^ int.from_bytes(data[i:i + 16], "big"), h)
    return digest


def gcm(key, nonce, associated, clear):
    keys = round_keys(key)
    h = int.from_bytes(block(keys, bytes(16)), "big")
    stream = b"".join(block(keys, nonce + struct.pack(">I", 2 + i)) for i in range((len(clear) + 15) // 16))
    secret = bytes(a ^ b for a, b in zip(clear, stream))
    whole = associated + bytes(-len(associated) % 16) + secret + bytes(-len(secret) % 16)
    whole += struct.pack(">QQ", 8 * len(associated), 8 * len(secret))
    mask = int.from_bytes(block(keys, nonce + struct.pack(">I", 1)), "big")
    return secret + (ghash(h, whole) ^ mask).to_bytes(16, "big")


# Test case 16 of the GCM submission by McGrew and Viega
assert gcm(
    bytes.fromhex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"),
    bytes.fromhex("cafebabefacedbaddecaf888"),
    bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
    bytes.fromhex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                  "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"),
).hex() == ("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
            "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b")


# ---- the session layer

def expand(secret, salt, info, length):
    """HKDF-SHA256 (RFC 5869)."""
    prk, out, last = hmac.digest(salt, secret, "sha256"), b"", b""
    for number in range(1, 5):
        last = hmac.digest(prk, last + info + bytes([number]), "sha256")
        out += last
    return out[:length]


def seal(suite, direction, secret, salt, phase, counter, associated, clear):
    info = b"\0".join([b"fairway session v1", suite.encode(), direction.encode(), bytes([phase])])
    number = struct.pack(">Q", counter)
    if suite == "aes-gcm-256":
        key = expand(secret, salt, info, 36)
        return number + gcm(key[:32], key[32:] + number, associated, clear)
    if suite == "hmac-sha256-128":
        key, body = expand(secret, salt, info, 32), number + clear
    else:
        size = 16 if suite == "aes-cbc-128" else 32
        material = expand(secret, salt, info, 2 * size + 32)
        iv = block(round_keys(material[size:2 * size]), bytes(8) + number)
        key, body = material[2 * size:], iv + cbc(material[:size], iv, clear)
    return body + hmac.digest(key, associated + body, "sha256")[:16]


def some(label, length):
    """Bytes that look random and are always the same."""
    out = b""
    while len(out) < length:
        out += hashlib.sha256(f"{label} {len(out)}".encode()).digest()
    return out[:length]


def cases():
    for suite in SUITES:
        for number, length in enumerate(LENGTHS):
            direction = ["forward", "reverse"][number % 2]
            label = f"{suite} {length}"
            secret, salt = some(label + " secret", 32), some(label + " salt", 16)
            phase, worker = salt[15], number % 3
            counter = phase << 56 | worker << 48 | (1 << 47 if number == 5 else number * number)
            associated = some(label + " associated", ASSOCIATED[number % len(ASSOCIATED)])
            clear = some(label + " clear", length)
            sealed = seal(suite, direction, secret, salt, phase, counter, associated, clear)
            fields = [secret, salt, struct.pack(">Q", counter), associated, clear, sealed]
            yield " ".join([suite, direction] + [field.hex() or "-" for field in fields])


def main():
    text = "# Written by tools/session-vectors.py: suite, direction, secret, sender salt, counter,\n"
    text += "# associated data, payload, what is sent. Hexadecimal; \"-\" is empty.\n"
    text += "\n".join(cases()) + "\n"
    if sys.argv[1:] == ["--check"]:
        if not FILE.exists() or FILE.read_text() != text:
            sys.exit(f"{FILE.relative_to(ROOT)} differs from what tools/session-vectors.py makes")
        return
    if sys.argv[1:]:
        sys.exit(__doc__)
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text)


main()
