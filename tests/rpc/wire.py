"""The cproto wire format as a client sees it: values, frames, snappy, CJSON. Nothing of the C code is used.

Written from the protocol's description (version 0x104, as connector 5.15 speaks it). Encoders produce what a client may
send; decoders refuse what would break one: unknown argument types, field indexes in CJSON, bytes too many or too few.
"""
import struct
import uuid

MAGIC = 0xEEDD1132
VERSION, COMPRESSED, DEDICATED = 0x104, 0x400, 0x800
HEAD = struct.Struct("<IHHII")

COMMANDS = {
    "ping": 0, "login": 1, "open_database": 2, "close_database": 3, "drop_database": 4, "enum_databases": 5, "open": 16, "close": 17, "drop": 18, "truncate": 19,
    "rename": 20, "add_index": 21, "enum_namespaces": 22, "drop_index": 24, "update_index": 25, "add_tx_item": 26, "commit_tx": 27, "rollback_tx": 28, "begin_tx": 29,
    "delete_query_tx": 30, "update_query_tx": 31, "commit": 32, "modify": 33, "delete_query": 34, "update_query": 35, "select": 48, "sql": 49, "fetch": 50,
    "close_results": 51, "delete_meta": 63, "get_meta": 64, "put_meta": 65, "enum_meta": 66, "set_schema": 67, "subscribe": 90, "event": 91}
INT64, DOUBLE, STRING, BOOL, NULL, INT, TUPLE, UUID, VECTOR, FLOAT = 0, 1, 2, 3, 4, 8, 11, 12, 13, 14
# CJSON types; the first five are those of values.
C_VARINT, C_DOUBLE, C_STRING, C_BOOL, C_NULL, C_ARRAY, C_OBJECT, C_END, C_UUID, C_FLOAT = range(10)


class Broken(Exception):
    """Bytes a client could not read."""


class I64(int):
    """An argument or value of type int64; a plain int is the 32-bit kind."""


class F32(float):
    """A single-precision value."""


class Vector(list):
    """A list of floats sent and received as raw float32."""


class Repeated(list):
    """The values of a name that a document has more than once."""


class Raw(bytes):
    """Bytes written as they are, where a value is expected."""


def varuint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def varint(n):
    return varuint(n << 1 ^ n >> 63)


def vstr(text):
    data = text.encode() if isinstance(text, str) else bytes(text)
    return varuint(len(data)) + data


def put_uuid(value):
    return struct.pack("<QQ", value.int >> 64, value.int & (1 << 64) - 1)


def fvec(values):
    return varuint(len(values) << 1) + struct.pack(f"<{len(values)}f", *values)


def variant(value):
    """A value with its type number before it."""
    if isinstance(value, Raw):
        return bytes(value)
    for kind, number, put in ((bool, BOOL, lambda v: varuint(int(v))), (I64, INT64, varint), (int, INT, varint),
                              (F32, FLOAT, lambda v: struct.pack("<f", v)), (float, DOUBLE, lambda v: struct.pack("<d", v)),
                              ((str, bytes), STRING, vstr), (uuid.UUID, UUID, put_uuid), (Vector, VECTOR, fvec),
                              (tuple, TUPLE, lambda v: varuint(len(v)) + b"".join(map(variant, v)))):
        if isinstance(value, kind):
            return varuint(number) + put(value)
    assert value is None, f"no variant for {value!r}"
    return varuint(NULL)


def arguments(*values):
    return varuint(len(values)) + b"".join(map(variant, values))


def frame(command, body=b"", seq=0, version=VERSION, magic=MAGIC, length=None):
    number = COMMANDS.get(command, command)
    return HEAD.pack(magic, version, number, len(body) if length is None else length, seq) + body


def request(command, *values, seq=0, timeout_ms=0, version=VERSION, pack=None):
    body = arguments(*values) + arguments(I64(timeout_ms))
    return frame(command, pack(body) if pack else body, seq, version | (COMPRESSED if pack else 0))


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if n < 0 or self.at + n > len(self.data):
            raise Broken(f"{n} bytes wanted at {self.at} of {len(self.data)}")
        self.at += n
        return self.data[self.at - n:self.at]

    def left(self):
        return len(self.data) - self.at

    def end(self):
        if self.left():
            raise Broken(f"{self.left()} bytes too many")

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]

    def varuint(self):
        out = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            out |= (byte & 0x7F) << shift
            if byte < 0x80:
                return out
        raise Broken("varuint of more than ten bytes")

    def varint(self):
        n = self.varuint()
        return n >> 1 ^ -(n & 1)

    def vstr(self):
        return self.take(self.varuint())

    def text(self):
        return self.vstr().decode()

    def slice(self):
        return self.take(self.number("I"))

    def uuid(self):
        high, low = struct.unpack("<QQ", self.take(16))
        return uuid.UUID(int=high << 64 | low)

    def argument(self):
        """Of a reply. A client knows these five types only and dies of any other."""
        kind = self.varuint()
        if kind == INT64:
            return I64(self.varint())
        if kind == INT:
            return self.varint()
        if kind == STRING:
            return self.vstr()
        if kind == BOOL:
            return bool(self.varuint())
        if kind == DOUBLE:
            return self.number("d")
        raise Broken(f"argument of type {kind}")


# ------------------------------------------------------------------------------------------------------------- snappy


def snappy_pack(data):
    """Valid snappy with as little effort as possible: literals, and copies of four bytes for runs of one byte."""
    out = bytearray(varuint(len(data)))
    at = 0
    while at < len(data):
        run = at + 1
        while run < len(data) and data[run] == data[at] and run - at < 65:
            run += 1
        if run - at > 8:
            out += bytes([0, data[at]]) + bytes([(run - at - 2) << 2 | 2, 1, 0])  # one literal, a copy at distance 1
            at = run
        else:
            size = min(60, len(data) - at)
            out += bytes([(size - 1) << 2]) + data[at:at + size]
            at += size
    return bytes(out)


def snappy_unpack(data):
    reader = Reader(data)
    size = reader.varuint()
    out = bytearray()
    while reader.left():
        tag = reader.take(1)[0]
        if tag & 3 == 0:
            n = tag >> 2
            if n >= 60:
                n = int.from_bytes(reader.take(n - 59), "little")
            out += reader.take(n + 1)
            continue
        if tag & 3 == 1:
            n, distance = (tag >> 2 & 7) + 4, tag >> 5 << 8 | reader.take(1)[0]
        else:
            n, distance = (tag >> 2) + 1, int.from_bytes(reader.take(2 if tag & 3 == 2 else 4), "little")
        if not 0 < distance <= len(out):
            raise Broken("snappy copy from before the start")
        for _ in range(n):
            out.append(out[-distance])
    if len(out) != size:
        raise Broken(f"snappy gave {len(out)} bytes of {size}")
    return bytes(out)


# -------------------------------------------------------------------------------------------------------------- CJSON


def ctag(kind, name=0, field=0):
    return varuint(kind & 7 | name << 3 | field << 15 | kind >> 3 << 29)


def atag(kind, n):
    return struct.pack("<I", n | kind << 24)


class Names(list):
    """A dictionary of names; the tag of a name is its place plus one."""

    def tag(self, name):
        if name not in self:
            self.append(name)
        return self.index(name) + 1

    def pack(self):
        return varuint(len(self)) + b"".join(map(vstr, self))


def scalar_type(value):
    for kind, number in ((bool, C_BOOL), (int, C_VARINT), (F32, C_FLOAT), (float, C_DOUBLE), (str, C_STRING), (bytes, C_STRING), (uuid.UUID, C_UUID)):
        if isinstance(value, kind):
            return number
    return C_NULL if value is None else None


def put_scalar(value):
    kind = scalar_type(value)
    return {C_BOOL: lambda: varuint(int(value)), C_VARINT: lambda: varint(value), C_FLOAT: lambda: struct.pack("<f", value),
            C_DOUBLE: lambda: struct.pack("<d", value), C_STRING: lambda: vstr(value), C_UUID: lambda: put_uuid(value), C_NULL: lambda: b""}[kind]()


def put_value(value, names, tag=0):
    """A value with its ctag."""
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, dict):
        return ctag(C_OBJECT, tag) + b"".join(put_value(v, names, names.tag(k)) for k, v in value.items()) + ctag(C_END)
    if isinstance(value, Vector):
        return ctag(C_ARRAY, tag) + atag(C_FLOAT, len(value)) + struct.pack(f"<{len(value)}f", *value)
    if isinstance(value, list):
        kinds = {scalar_type(v) for v in value} or {C_NULL}
        if len(kinds) == 1 and None not in kinds:
            return ctag(C_ARRAY, tag) + atag(kinds.pop(), len(value)) + b"".join(map(put_scalar, value))
        return ctag(C_ARRAY, tag) + atag(C_OBJECT, len(value)) + b"".join(put_value(v, names) for v in value)
    return ctag(scalar_type(value), tag) + put_scalar(value)


def document(value, names, bundled=False):
    """CJSON of a dict; bundled: with the whole dictionary behind it."""
    data = put_value(value, names)
    if not bundled:
        return data
    return b"\x07" + struct.pack("<I", 5 + len(data)) + data + names.pack()


def get_scalar(reader, kind):
    return {C_VARINT: reader.varint, C_DOUBLE: lambda: reader.number("d"), C_STRING: reader.text, C_BOOL: lambda: bool(reader.varuint()),
            C_NULL: lambda: None, C_UUID: reader.uuid, C_FLOAT: lambda: F32(reader.number("f"))}[kind]()


def get_tag(reader):
    word = reader.varuint()
    if word >> 32 or word >> 25 & 15:
        raise Broken(f"ctag {word:#x}")
    if word >> 15 & 0x3FF:
        raise Broken(f"ctag {word:#x} has a field index")
    return word & 7 | word >> 29 << 3, word >> 3 & 0xFFF


def get_value(reader, kind, names):
    if kind == C_OBJECT:
        out = {}
        while True:
            member, tag = get_tag(reader)
            if member == C_END:
                return out
            if not 0 < tag <= len(names):
                raise Broken(f"name {tag} of {len(names)}")
            value, name = get_value(reader, member, names), names[tag - 1]
            if name in out:
                value = Repeated([*out[name], value] if isinstance(out[name], Repeated) else [out[name], value])
            out[name] = value
    if kind == C_ARRAY:
        word = reader.number("I")
        n, element = word & 0xFFFFFF, word >> 24
        if element == C_FLOAT:
            return Vector(struct.unpack(f"<{n}f", reader.take(4 * n)))
        if element in (C_ARRAY, C_END) or element > C_FLOAT:
            raise Broken(f"array of type {element}")
        if element != C_OBJECT:
            return [get_scalar(reader, element) for _ in range(n)]
        out = []
        for _ in range(n):
            inner, tag = get_tag(reader)
            if tag:
                raise Broken("element with a name")
            out.append(get_value(reader, inner, names))
        return out
    if kind > C_FLOAT or kind == C_END:
        raise Broken(f"value of type {kind}")
    return get_scalar(reader, kind)


def parse_document(data, names):
    reader = Reader(data)
    kind, tag = get_tag(reader)
    if kind != C_OBJECT or tag:
        raise Broken(f"a document starts with type {kind}, name {tag}")
    out = get_value(reader, kind, names)
    reader.end()
    return out
