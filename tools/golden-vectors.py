#!/usr/bin/env python3
"""Makes the golden vectors of docs/wire.md from nothing but Python's standard library.

It shares no code with the Rust crates, so that a mistake has to be made twice to go unnoticed.

    tools/golden-vectors.py            write crates/wire/vectors/*.hex and the appendix of docs/wire.md
    tools/golden-vectors.py --check    fail if what is there differs
    tools/golden-vectors.py --pcap F   write all whole packets to F (raw IP), for a dissector

A vector is a text file of lines "name value": bytes in hex, names and numbers as they are.
"""

import hashlib
import hmac
import ipaddress
import pathlib
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
VECTORS = ROOT / "crates" / "wire" / "vectors"
DOCUMENT = ROOT / "docs" / "wire.md"
BEGIN = "<!-- vectors: written by tools/golden-vectors.py -->"
END = "<!-- end of vectors -->"

COOKIE = bytes.fromhex("4c48dbc6ddf6670c")
UNIX = 1_795_000_001
PEER_KEY = bytes(range(32))
SALTS = {"branch": bytes(range(0x40, 0x50)), "hub": bytes(range(0x50, 0x60))}
IV = bytes(range(0xA0, 0xB0))
UUID = bytes.fromhex("00112233445546678899aabbccddeeff")
WAYPOINTS = {"branch": "192.0.2.1", "hub": "198.51.100.1"}
WAYPOINTS6 = {"branch": "2001:db8:1::1", "hub": "2001:db8:2::1"}
CLIENT, SERVER = ("10.1.0.10", 51000), ("10.2.0.20", 443)
CLIENT6, SERVER6 = ("2001:db8:a::10", 51000), ("2001:db8:b::20", 443)
TCP, UDP, ICMP = 6, 17, 1


# ---- AES-256-CBC (FIPS 197, SP 800-38A), encryption only

def _xtime(a):
    return ((a << 1) ^ 0x1B) & 0xFF if a & 0x80 else a << 1


def _sbox():
    box, p, q = [0] * 256, 1, 1
    while True:
        p = p ^ _xtime(p)
        q ^= q << 1
        q ^= q << 2
        q ^= q << 4
        q &= 0xFF
        if q & 0x80:
            q ^= 0x09
        rotations = [((q << n) | (q >> (8 - n))) & 0xFF for n in range(5)]
        box[p] = rotations[0] ^ rotations[1] ^ rotations[2] ^ rotations[3] ^ rotations[4] ^ 0x63
        if p == 1:
            break
    box[0] = 0x63
    return box


SBOX = _sbox()


def aes256_round_keys(key):
    words, rcon = [list(key[i:i + 4]) for i in range(0, 32, 4)], 1
    for i in range(8, 60):
        word = list(words[i - 1])
        if i % 8 == 0:
            word = [SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= rcon
            rcon = _xtime(rcon)
        elif i % 8 == 4:
            word = [SBOX[b] for b in word]
        words.append([a ^ b for a, b in zip(words[i - 8], word)])
    return [sum(words[i:i + 4], []) for i in range(0, 60, 4)]


def aes256_block(keys, block):
    state = [a ^ b for a, b in zip(block, keys[0])]
    for number in range(1, 15):
        state = [SBOX[b] for b in state]
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]
        if number != 14:
            mixed = []
            for c in range(0, 16, 4):
                col, every = state[c:c + 4], 0
                for b in col:
                    every ^= b
                mixed += [col[i] ^ every ^ _xtime(col[i] ^ col[(i + 1) % 4]) for i in range(4)]
            state = mixed
        state = [a ^ b for a, b in zip(state, keys[number])]
    return bytes(state)


def aes256_cbc(key, iv, clear):
    padding = 16 - len(clear) % 16
    clear += bytes([padding]) * padding
    keys, last, out = aes256_round_keys(key), iv, b""
    for i in range(0, len(clear), 16):
        last = aes256_block(keys, [a ^ b for a, b in zip(clear[i:i + 16], last)])
        out += last
    return out


# FIPS 197, appendix C.3
assert aes256_block(aes256_round_keys(bytes(range(32))), bytes.fromhex("00112233445566778899aabbccddeeff")) \
    == bytes.fromhex("8ea2b7ca516745bfeafc49904b496089")


# ---- keys

def hkdf(ikm, salt, info):
    """HKDF-SHA256 (RFC 5869), 32 bytes."""
    return hmac.digest(hmac.digest(salt, ikm, "sha256"), info + b"\x01", "sha256")


def hop_key(purpose, sender, receiver):
    info = b"\0".join([b"fairway hop v1", purpose.encode(), sender.encode(), receiver.encode()])
    return hkdf(PEER_KEY, SALTS[sender], info)


def security_id(sender, receiver):
    text = b"\0".join([b"fairway security id v1", receiver.encode(), sender.encode()])
    return hashlib.sha256(text).digest()[:4]


def hop_tag(sender, receiver, signed):
    slot = struct.pack(">Q", UNIX // 2)
    return hmac.digest(hop_key("sign", sender, receiver), signed + slot, "sha256")[:16]


# ---- headers

def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def transport(source, destination, protocol, header, payload):
    """Fills the checksum of a TCP or UDP header."""
    at = {TCP: 16, UDP: 6}[protocol]
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    segment = header + payload
    if source.version == 4:
        pseudo = source.packed + destination.packed + struct.pack(">BBH", 0, protocol, len(segment))
    else:
        pseudo = source.packed + destination.packed + struct.pack(">II", len(segment), protocol)
    value = checksum(pseudo + segment) or (0xFFFF if protocol == UDP else 0)
    return header[:at] + struct.pack(">H", value) + header[at + 2:]


def ip_header(source, destination, protocol, length, ttl=63):
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    if source.version == 6:
        return struct.pack(">IHBB", 6 << 28, length, protocol, ttl) + source.packed + destination.packed
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 0x1234, 0x4000, ttl, protocol, 0)
    header += source.packed + destination.packed
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:]


def udp_header(source_port, destination_port, payload):
    return struct.pack(">HHHH", source_port, destination_port, 8 + len(payload), 0)


def tcp_syn(source_port, destination_port):
    return struct.pack(">HHIIBBHHH", source_port, destination_port, 0x01020304, 0, 6 << 4, 2, 64240, 0, 0) \
        + struct.pack(">BBH", 2, 4, 1360)


def tcp_ack(source_port, destination_port):
    return struct.pack(">HHIIBBHHH", source_port, destination_port, 0x0A0B0C0D, 0x01020305, 5 << 4, 0x18, 65535, 0, 0)


def icmp_message(kind, code, rest, body):
    message = struct.pack(">BBH", kind, code, 0) + rest + body
    return message[:2] + struct.pack(">H", checksum(message)) + message[4:]


# ---- metadata

def tlv(kind, value=b""):
    return struct.pack(">HH", kind, len(value)) + value


def context(kind4, kind6, source, destination, protocol):
    a, b = ipaddress.ip_address(source[0]), ipaddress.ip_address(destination[0])
    kind = kind4 if a.version == 4 else kind6
    return tlv(kind, a.packed + b.packed + struct.pack(">HHB", source[1], destination[1], protocol))


def metadata_header(header, payload_len):
    return COOKIE + struct.pack(">HH", 1 << 12 | 12 + len(header), payload_len) + header


class Vector:
    """One packet: its parts in order, each with a meaning, and what a test needs to know of it."""

    def __init__(self, name, about):
        self.name, self.about, self.parts, self.values = name, about, [], []

    def value(self, name, value):
        self.values.append((name, value.hex() if isinstance(value, bytes) else str(value)))
        return self

    def part(self, data, meaning):
        if data:
            self.parts.append((data, meaning))
        return self

    def bytes(self):
        return b"".join(data for data, _ in self.parts)

    def file(self):
        lines = [f"# {self.about}", "# Written by tools/golden-vectors.py."]
        lines += [f"{name} {value}" for name, value in self.values]
        return "\n".join(lines) + "\n"


def hop(vector, sender, receiver):
    """Notes the keys of the hop."""
    vector.value("sender", sender).value("receiver", receiver).value("unix", UNIX)
    vector.value("peer-key", PEER_KEY).value("key-salt", SALTS[sender])
    vector.value("security-id", security_id(sender, receiver))
    vector.value("sign-key", hop_key("sign", sender, receiver))
    return vector.value("encrypt-key", hop_key("encrypt", sender, receiver))


def key_tlvs(sender, receiver, sequence, others=(), encrypted=False):
    """The header TLVs every signed packet with TLVs has, with others sorted in."""
    tlvs = [tlv(16, security_id(sender, receiver)), tlv(0x8004, SALTS[sender]),
            tlv(0x8005, struct.pack(">Q", sequence)), *others]
    if encrypted:
        tlvs.append(tlv(0x8007))
    return b"".join(sorted(tlvs))


def metadata(vector, sender, receiver, header, clear, rest, encrypted=False):
    """Adds metadata, P' and tag; gives them as one."""
    section = IV + aes256_cbc(hop_key("encrypt", sender, receiver), IV, clear) if encrypted else clear
    head = metadata_header(header, len(section))
    tag = hop_tag(sender, receiver, head + section + rest)
    vector.value("header-tlvs", header).value("payload-tlvs", clear)
    if encrypted:
        vector.value("iv", IV)
    vector.value("payload-section", section).value("rest", rest).value("tag", tag)
    parts = [(head[:8], "cookie"), (head[8:10], f"version 1, HL {len(head)}"),
             (head[10:12], f"PL {len(section)}")]
    parts += tlv_parts(header)
    if encrypted:
        parts += [(IV, "IV"), (section[16:], "AES-256-CBC of the payload TLVs:")]
        parts += [(b"", "  " + data.hex() + "  " + meaning) for data, meaning in tlv_parts(clear)]
    else:
        parts += tlv_parts(clear)
    parts += [(rest, "P'"), (tag, "hop tag")]
    return parts


TLV_NAMES = {
    1: "fragment", 2: "forward context v4", 3: "forward context v6", 4: "reverse context v4",
    5: "reverse context v6", 6: "session UUID", 7: "tenant", 8: "global interface", 10: "service",
    11: "session encrypted", 12: "TCP SYN", 13: "sessions in service", 14: "source router",
    15: "security policy", 16: "security id", 17: "destination router", 18: "disable forward metadata",
    19: "peer pathway", 20: "ICMP error location v4", 21: "ICMP error location v6", 24: "control",
    25: "source NAT", 26: "path metrics", 28: "modify", 35: "application", 42: "remaining session time",
    46: "health check / session key", 50: "multicast context", 51: "multicast egress list",
    0x8001: "sender salt", 0x8002: "epoch", 0x8003: "sequence and repair", 0x8004: "key salt",
    0x8005: "metadata sequence", 0x8006: "boot id", 0x8007: "metadata encrypted",
}


def tlv_parts(section):
    parts = []
    while section:
        kind, length = struct.unpack(">HH", section[:4])
        parts.append((section[:4 + length], f"TLV {kind if kind < 0x8000 else hex(kind)} {TLV_NAMES[kind]}"))
        section = section[4 + length:]
    return parts


def on_waypoints(vector, sender, receiver, protocol, ports, parts, tcp=None, addresses=None):
    """Puts IP and transport header in front of the parts."""
    payload = b"".join(data for data, _ in parts)
    addresses = addresses or WAYPOINTS
    source, destination = addresses[sender], addresses[receiver]
    header = tcp if protocol == TCP else udp_header(*ports, payload)
    header = transport(source, destination, protocol, header, payload)
    vector.part(ip_header(source, destination, protocol, len(header) + len(payload)), "IP header")
    vector.part(header, "TCP header" if protocol == TCP else "UDP header")
    for data, meaning in parts:
        vector.parts.append((data, meaning))
    vector.value("l4-payload", payload).value("packet", vector.bytes())
    return vector


FORWARD_PORTS, REVERSE_PORTS = (16386, 16387), (16387, 16386)


def session(protocol, source=CLIENT, destination=SERVER):
    return [context(2, 3, source, destination, protocol), tlv(6, UUID), tlv(7, b"staff"), tlv(10, b"web"),
            tlv(14, b"branch"), tlv(15, b"aes1"), tlv(19, b"wan0"), tlv(0x8001, bytes(range(0x60, 0x70))),
            tlv(0x8002, struct.pack(">I", 1))]


def plain():
    v = Vector("plain", "An established session without per-hop authentication: P' alone.")
    return on_waypoints(v.value("rest", b"hello"), "branch", "hub", UDP, FORWARD_PORTS, [(b"hello", "P'")])


def plain_tagged():
    v = hop(Vector("plain-tagged", "The same with per-hop authentication: P' and the hop tag."), "branch", "hub")
    tag = hop_tag("branch", "hub", b"hello")
    v.value("rest", b"hello").value("tag", tag)
    return on_waypoints(v, "branch", "hub", UDP, FORWARD_PORTS, [(b"hello", "P'"), (tag, "hop tag")])


def forward_clear():
    v = hop(Vector("forward-clear", "A TCP SYN with forward metadata in the clear."), "branch", "hub")
    parts = metadata(v, "branch", "hub", key_tlvs("branch", "hub", 1), b"".join(session(TCP)), b"")
    return on_waypoints(v, "branch", "hub", TCP, None, parts, tcp=tcp_syn(*FORWARD_PORTS))


def forward_encrypted():
    v = Vector("forward-encrypted", "The first packet of an encrypted UDP session, IPv6, encrypted metadata.")
    hop(v, "branch", "hub")
    tlvs = session(UDP, CLIENT6, SERVER6)
    tlvs += [tlv(11), tlv(46, bytes(range(0x80, 0xA0)))]
    clear = b"".join(sorted(tlvs))
    rest = bytes.fromhex("0000000000000001") + bytes(range(0xC0, 0xD5))
    header = key_tlvs("branch", "hub", 2, encrypted=True)
    parts = metadata(v, "branch", "hub", header, clear, rest, encrypted=True)
    return on_waypoints(v, "branch", "hub", UDP, FORWARD_PORTS, parts, addresses=WAYPOINTS6)


def reverse_clear():
    v = hop(Vector("reverse-clear", "The first answer with reverse metadata in the clear."), "hub", "branch")
    clear = b"".join([context(4, 5, SERVER, CLIENT, UDP), tlv(6, UUID), tlv(7, b"staff"),
                      tlv(13, struct.pack(">Q", 7)), tlv(19, b"wan0"), tlv(0x8001, bytes(range(0x70, 0x80))),
                      tlv(0x8002, struct.pack(">I", 1))])
    parts = metadata(v, "hub", "branch", key_tlvs("hub", "branch", 1), clear, b"world")
    return on_waypoints(v, "hub", "branch", UDP, REVERSE_PORTS, parts)


def control():
    v = Vector("control", "A control message: the hub asks for metadata of a session it does not know.")
    hop(v, "hub", "branch")
    clear = tlv(0x8006, struct.pack(">Q", 0x1122334455667788))
    parts = metadata(v, "hub", "branch", key_tlvs("hub", "branch", 2, [tlv(24, b"\x02")]), clear, b"")
    return on_waypoints(v, "hub", "branch", UDP, REVERSE_PORTS, parts)


def false_positive():
    v = hop(Vector("false-positive", "An empty header before a payload that begins with the cookie."), "branch", "hub")
    parts = metadata(v, "branch", "hub", b"", b"", COOKIE + b"not metadata")
    return on_waypoints(v, "branch", "hub", UDP, FORWARD_PORTS, parts)


def icmp_in_udp():
    v = hop(Vector("icmp-in-udp", "An ICMP echo request: the whole message behind a UDP header."), "branch", "hub")
    message = icmp_message(8, 0, struct.pack(">HH", 0x4321, 1), b"abcdefgh")
    clear = b"".join(session(ICMP, (CLIENT[0], 0x4321), (SERVER[0], 0x4321)))
    parts = metadata(v, "branch", "hub", key_tlvs("branch", "hub", 3), clear, message)
    return on_waypoints(v, "branch", "hub", UDP, FORWARD_PORTS, parts)


def icmp_error():
    v = Vector("icmp-error", "A relayed ICMP error: 10.2.0.1 says that the client's TCP segment is too big.")
    hop(v, "hub", "branch")
    quoted = tcp_syn(0, 0)[:20]
    rest = struct.pack(">BBHHH", 3, 4, 0, 0, 1400) + quoted
    header = key_tlvs("hub", "branch", 3, [tlv(20, ipaddress.ip_address("10.2.0.1").packed)])
    parts = metadata(v, "hub", "branch", header, tlv(6, UUID), rest)
    return on_waypoints(v, "hub", "branch", TCP, None, parts, tcp=tcp_ack(*REVERSE_PORTS))


def fragment():
    v = hop(Vector("fragment", "The last piece of a packet that was too big with our own overhead."), "branch", "hub")
    value = struct.pack(">IHHH", 0xDEADBEEF, 0x1234, 1 << 14 | 1368 // 8, 1368)
    metrics = struct.pack(">IIH", 0x0123456, 0, 0)
    header = key_tlvs("branch", "hub", 4, [tlv(1, value), tlv(26, metrics)])
    parts = metadata(v, "branch", "hub", header, b"", b"the last bytes of P'")
    return on_waypoints(v, "branch", "hub", UDP, FORWARD_PORTS, parts)


def bfd():
    v = hop(Vector("bfd", "BFD between waypoints: a control packet in state Up behind metadata."), "branch", "hub")
    body = struct.pack(">BBBBIIIII", 1 << 5, 3 << 6, 3, 24, 0x11, 0x22, 1_000_000, 500_000, 0)
    clear = tlv(14, b"branch") + tlv(19, b"wan0") + tlv(0x8006, struct.pack(">Q", 0x8877665544332211))
    parts = metadata(v, "branch", "hub", key_tlvs("branch", "hub", 5), clear, body)
    return on_waypoints(v, "branch", "hub", UDP, (1280, 1280), parts)


def all_header_tlvs():
    v = Vector("all-header-tlvs", "A header section with every TLV, IPv6 where there is a choice.")
    section = b"".join([
        tlv(1, struct.pack(">IHHH", 1, 2, 1 << 14 | 1 << 13 | 5, 1400)), tlv(16, struct.pack(">I", 7)), tlv(18),
        tlv(21, ipaddress.ip_address("2001:db8::1").packed), tlv(24, b"\x01"),
        tlv(26, struct.pack(">IIH", 3 << 28 | 0x0ABCDEF, 5 << 28 | 0x0123456, 1 << 15 | 99)),
        tlv(28, struct.pack(">H", 1 << 15 | 0x123)), tlv(46, b"\x02"),
        tlv(0x8003, struct.pack(">IBBBBI", 9, 1, 4, 2, 0, 77)), tlv(0x8004, SALTS["hub"]),
        tlv(0x8005, struct.pack(">Q", 1 << 40)), tlv(0x8007)])
    for data, meaning in tlv_parts(section):
        v.part(data, meaning)
    return v.value("header-tlvs", section)


def all_payload_tlvs():
    v = Vector("all-payload-tlvs", "A payload section with every TLV, both families.")
    group = ipaddress.ip_address("10.1.0.10").packed + ipaddress.ip_address("239.1.2.3").packed
    section = b"".join([
        context(2, 3, CLIENT, SERVER, TCP), context(4, 5, SERVER6, CLIENT6, TCP), tlv(6, UUID), tlv(7, b"staff"),
        tlv(8, struct.pack(">I", 3)), tlv(10, b"web"), tlv(11), tlv(12), tlv(13, struct.pack(">Q", 7)),
        tlv(14, b"branch"), tlv(15, b"aes1"), tlv(17, b"hub"), tlv(18), tlv(19, b"\x00\xff"),
        tlv(25, bytes([203, 0, 113, 9])), tlv(35, "wÿrd".encode()), tlv(42, struct.pack(">I", 1800)),
        tlv(46, bytes(range(32))), tlv(50, bytes([4, 0]) + group + bytes([UDP])),
        tlv(51, b"\x00\x02\x03hub\x04edge"), tlv(0x8001, SALTS["branch"]), tlv(0x8002, struct.pack(">I", 2)),
        tlv(0x8006, struct.pack(">Q", 5))])
    for data, meaning in tlv_parts(section):
        v.part(data, meaning)
    return v.value("payload-tlvs", section)


def vectors():
    return [make() for make in (plain, plain_tagged, forward_clear, forward_encrypted, reverse_clear, control,
                                false_positive, icmp_in_udp, icmp_error, fragment, bfd, all_header_tlvs,
                                all_payload_tlvs)]


# ---- output

def appendix(all_vectors):
    lines = [BEGIN]
    for vector in all_vectors:
        lines += ["", f"### {vector.name}", "", vector.about, "", "```text"]
        at = 0
        for data, meaning in vector.parts:
            if not data:
                lines.append(f"          {meaning}")
            for start in range(0, len(data), 32):
                label = meaning if start == 0 else ""
                lines.append(f"{at + start:4}  {data[start:start + 32].hex():<64}  {label}".rstrip())
            at += len(data)
        lines.append("```")
    return "\n".join([*lines, "", END])


def document(text, all_vectors):
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + appendix(all_vectors) + after


def write_pcap(path, all_vectors):
    packets = [bytes.fromhex(dict(v.values)["packet"]) for v in all_vectors if "packet" in dict(v.values)]
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
        for packet in packets:
            out.write(struct.pack("<IIII", UNIX, 0, len(packet), len(packet)) + packet)


def main(arguments):
    all_vectors = vectors()
    if arguments[:1] == ["--pcap"] and len(arguments) == 2:
        return write_pcap(arguments[1], all_vectors)
    wanted = {VECTORS / f"{v.name}.hex": v.file() for v in all_vectors}
    wanted[DOCUMENT] = document(DOCUMENT.read_text(), all_vectors)
    if arguments == ["--check"]:
        stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
        stale += [path for path in VECTORS.glob("*.hex") if path not in wanted]
        for path in stale:
            print(f"{path.relative_to(ROOT)} differs from what tools/golden-vectors.py makes", file=sys.stderr)
        return 1 if stale else 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    VECTORS.mkdir(exist_ok=True)
    for path, text in wanted.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
