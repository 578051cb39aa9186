"""Binary queries and result blobs of the cproto protocol."""
import json
from dataclasses import dataclass, field

from wire import (F32, I64, Broken, Names, Reader, Vector, fvec, parse_document, struct, variant, varuint, vstr)

CONDS = {"any": 0, "eq": 1, "lt": 2, "le": 3, "gt": 4, "ge": 5, "range": 6, "set": 7, "allset": 8, "empty": 9, "like": 10, "dwithin": 11, "knn": 12}
OPS = {"or": 1, "and": 2, "not": 3}
AGGS = {"sum": 0, "avg": 1, "facet": 2, "min": 3, "max": 4, "distinct": 5, "count": 6, "count_cached": 7}
PARAMS = {"base": 0, "bf": 1, "hnsw": 2, "ivf": 3}
LEFT, INNER, OR_INNER, MERGE = range(4)

CJSON, JSON = 2, 3  # of results; items: 0 JSON, 1 CJSON
FLAG_TYPES, FLAG_ID, FLAG_RANK, FLAG_NSID, FLAG_JOINED, FLAG_SHOW_RANK, FLAG_IDLE = 0x10, 0x20, 0x40, 0x80, 0x100, 0x400, 0x2000
OBJECTS, AS_JSON = FLAG_IDLE | FLAG_TYPES | FLAG_ID | CJSON, FLAG_IDLE | JSON


def knn_params(kind="base", k=None, radius=None, ef=None, nprobe=None, version=1):
    out = varuint(PARAMS.get(kind, kind)) + varuint(version) + bytes([(k is not None) | (radius is not None) << 1])
    out += b"" if k is None else varuint(k)
    out += b"" if radius is None else struct.pack("<f", radius)
    return out + b"".join(varuint(n) for n in (ef, nprobe) if n is not None)


class Query:
    """Entries in the order of the calls, as a builder sends them."""

    def __init__(self, namespace):
        self.namespace, self.entries = namespace, b""
        self.joins, self.merges = [], []

    def add(self, *parts):
        self.entries += b"".join(varuint(p) if isinstance(p, int) else p for p in parts)
        return self

    def where(self, name, cond, *values, op="and"):
        return self.add(0, vstr(name), OPS[op], CONDS[cond], len(values), *map(variant, values))

    def sort(self, expression, desc=False, *forced):
        return self.add(2, vstr(expression), int(desc), len(forced), *map(variant, forced))

    def limit(self, n):
        return self.add(4, n)

    def offset(self, n):
        return self.add(5, n)

    def total(self, mode=2):
        return self.add(6, mode)

    def aggregate(self, kind, *names):
        return self.add(8, AGGS[kind], len(names), *map(vstr, names))

    def select(self, *names):
        for name in names:
            self.add(9, vstr(name))
        return self

    def explain(self):
        return self.add(12)

    def open(self, op="and"):
        return self.add(18, OPS[op])

    def shut(self):
        return self.add(19)

    def set(self, name, *values, expression=False, cmd=14):
        is_array = [int(len(values) != 1 or cmd == 25)] if cmd == 25 else []
        return self.add(cmd, vstr(name), *is_array, len(values), *(p for v in values for p in (int(expression), variant(v))))

    def set_object(self, name, *values, is_array=False):
        return self.add(22, vstr(name), len(values), int(is_array), *(p for v in values for p in (0, variant(json.dumps(v)))))

    def drop(self, name):
        return self.add(21, vstr(name))

    def rank(self):
        return self.add(23)

    def strict(self, mode):
        return self.add(24, {"none": 1, "names": 2, "indexes": 3}[mode])

    def between(self, left, cond, right, op="and"):
        return self.add(26, OPS[op], vstr(left), CONDS[cond], vstr(right))

    def sub(self, query, cond, *values, op="and"):
        """A subquery against values."""
        return self.add(29, OPS[op], vstr(query.pack(end=False)), CONDS[cond], len(values), *map(variant, values))

    def field_sub(self, name, cond, query, op="and"):
        return self.add(30, OPS[op], vstr(name), CONDS[cond], vstr(query.pack(end=False)))

    def knn(self, name, value, op="and", **params):
        if isinstance(value, str):
            return self.add(33, vstr(name), OPS[op], 1, vstr(value), knn_params(**params))
        return self.add(32, vstr(name), OPS[op], fvec(value), knn_params(**params))

    def join(self, kind, query, *on):
        """on: (left field, condition, right field)."""
        if kind != LEFT:
            self.add(20, kind, len(self.joins))
        for left, cond, right in on:
            query.add(3, OPS["and"], CONDS[cond], vstr(left), vstr(right))
        self.joins.append((kind, query))
        return self

    def merge(self, query):
        self.merges.append(query)
        return self

    def pack(self, end=True):
        out = vstr(self.namespace) + self.entries + (b"\x0b" if end else b"")
        for kind, query in self.joins:
            out += varuint(kind) + vstr(query.namespace) + query.entries + b"\x0b"
        for query in self.merges:
            out += varuint(MERGE) + query.pack()
        return out

    def namespaces(self):
        """In the order that numbers them in a result."""
        mine = [self.namespace] + [q.namespace for q in self.merges] + [q.namespace for _, q in self.joins]
        return mine + [q.namespace for m in self.merges for _, q in m.joins]


@dataclass
class State:
    """What a client knows of a namespace's dictionary."""
    token: int = 0
    version: int = -1
    names: Names = field(default_factory=Names)

    def mark(self):
        """As the list of versions carries it: 32 bits with sign."""
        word = (self.version ^ self.token) & 0xFFFFFFFF
        return word - (1 << 32) if word >> 31 else word

    def learn(self, token, version, names):
        if token != self.token or version > self.version:
            self.token, self.version, self.names = token, version, Names(names)


@dataclass
class Row:
    id: int = None
    lsn: int = None
    nsid: int = 0
    rank: float = None
    doc: dict = None
    joined: list = field(default_factory=list)


@dataclass
class Result:
    flags: int
    total: int
    query_count: int
    count: int
    types: dict = field(default_factory=dict)
    aggregations: list = field(default_factory=list)
    explain: dict = None
    extras: dict = field(default_factory=dict)
    rows: list = field(default_factory=list)
    handle: int = -1
    uid: int = -1

    def docs(self):
        return [row.doc for row in self.rows]

    def ids(self, name="id"):
        return [row.doc[name] for row in self.rows]

    def ranks(self):
        return [row.rank for row in self.rows]


def read_type(reader):
    """A payload type: (nsid, name, token, version, names, fields)."""
    nsid, name = reader.varuint(), reader.text()
    token, version = reader.varuint(), reader.varuint()
    if token >> 32:
        raise Broken(f"token {token:#x} has more than 32 bits")
    names = [reader.text() for _ in range(reader.varuint())]
    reader.varuint()
    fields = []
    for _ in range(reader.varuint()):
        kind = reader.varuint()
        dim = reader.varuint() if kind == 13 else None
        title, offset, size, is_array = reader.text(), reader.varuint(), reader.varuint(), reader.varuint()
        fields.append((title, kind, dim, offset, size, bool(is_array), [reader.text() for _ in range(reader.varuint())]))
    token -= (token >> 31) << 32
    return nsid, name, token, version, names, fields


def read_extras(reader, result):
    while tag := reader.varuint():
        if tag == 1:
            result.aggregations.append(json.loads(reader.slice()))
        elif tag == 2:
            result.explain = json.loads(reader.slice())
        elif tag == 5:
            result.extras[5] = [(reader.varint(), [reader.varint() for _ in range(reader.varuint())]) for _ in range(reader.varuint())]
        elif tag == 6:
            result.extras[6] = reader.varuint()
            if result.extras[6] != 0:
                raise Broken(f"rank format {result.extras[6]}")
        else:
            raise Broken(f"extra {tag}, which a client does not know")


def read_row(reader, result, names, is_joined=False):
    row, flags = Row(), result.flags
    if flags & FLAG_ID:
        row.id, row.lsn = reader.varuint(), reader.varuint()
    if flags & FLAG_NSID:
        row.nsid = reader.varuint()
    if flags & FLAG_RANK:
        row.rank = F32(reader.number("f")) if 6 in result.extras else reader.varuint()
    if flags & 15 == CJSON:
        if row.nsid >= len(names):
            raise Broken(f"namespace {row.nsid} of {len(names)}")
        row.doc = parse_document(reader.slice(), names[row.nsid])
    elif flags & 15 == JSON:
        row.doc = json.loads(reader.slice())
    if flags & FLAG_JOINED and not is_joined:
        for _ in range(reader.varuint()):
            row.joined.append([read_row(reader, result, names, True) for _ in range(reader.varuint())])
    return row


def read_result(blob, states):
    """states: those of the namespaces in the result's order; what the blob announces goes into them."""
    reader = Reader(blob)
    result = Result(reader.varuint(), reader.varuint(), reader.varuint(), reader.varuint())
    if result.flags & 15 == JSON and result.flags & (FLAG_JOINED | FLAG_TYPES):
        raise Broken(f"flags {result.flags:#x} of a JSON result")
    if result.flags & (0x800 | 0x1000 | 0x200):
        raise Broken(f"flags {result.flags:#x}")
    if result.flags & FLAG_TYPES:
        for _ in range(reader.varuint()):
            nsid, name, token, version, names, fields = read_type(reader)
            if nsid >= len(states):
                raise Broken(f"type of namespace {nsid}, the query has {len(states)}")
            states[nsid].learn(token, version, names)
            result.types[nsid] = (name, token, version, names, fields)
    read_extras(reader, result)
    names = [s.names for s in states]
    result.rows = [read_row(reader, result, names) for _ in range(result.count)]
    reader.end()
    for aggregation in result.aggregations:
        for value in aggregation.get("distincts", []):
            if not isinstance(value, str) and not all(isinstance(v, str) for v in value):
                raise Broken(f"distinct {value!r} is not text")
    return result


def versions(states):
    return varuint(len(states)) + b"".join(varuint(s.mark()) for s in states)


__all__ = ["Query", "State", "Result", "Row", "Vector", "I64"]
