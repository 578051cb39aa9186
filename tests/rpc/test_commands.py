"""Namespaces, indexes, items in CJSON, transactions, metadata, system namespaces, events; and what each error code is for."""
import json
import random
import struct
import threading
import unittest
import uuid

from client import DELETE, INSERT, ITEM_CJSON, ITEM_JSON, PK, UPDATE, UPSERT, Db, Refused, Server, index, vector_index
from query import JSON, Query
from wire import F32, I64, Names, Reader, Vector, atag, ctag, document, request, varuint


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        """A database of its own for every test."""
        self.name = self.id().rsplit(".", 1)[1]
        self.db = self.connect()

    def connect(self, **login):
        db = Db(self.server, self.name, **login)
        self.addCleanup(db.sock.close)
        return db

    def refused(self, code, call, *values, **other):
        with self.assertRaises(Refused) as caught:
            call(*values, **other)
        self.assertEqual(caught.exception.code, code, caught.exception.text)
        return caught.exception.text

    def add(self, namespace, definition):
        return self.db.call("add_index", namespace, json.dumps(definition))

    def described(self, namespace):
        got = self.db.select(Query("#namespaces").where("name", "eq", namespace))
        return got.docs()[0] if got.count else None


class Namespaces(Case):
    def test_life(self):
        db = self.db
        db.open("things", PK, index("s", "string", "tree"))
        db.open("things", PK, index("s", "string", "tree"))  # every client that starts does this again
        db.modify("things", {"id": 1, "s": "a"})
        self.assertEqual(db.call("close", "things"), [])
        self.assertEqual(db.select(Query("things")).count, 1, "close is one client's wish and takes nothing from others")
        self.assertEqual(db.call("truncate", "things"), [])
        self.assertEqual(db.select(Query("things")).count, 0)
        db.modify("things", {"id": 2, "s": "b"})
        self.assertEqual(db.call("rename", "things", "others"), [])
        self.refused(13, db.select, Query("things"))
        self.assertEqual(db.select(Query("others")).ids(), [2])
        self.assertEqual(db.call("drop", "others"), [])
        self.refused(13, db.select, Query("others"))
        self.refused(13, db.call, "drop", "others")

    def test_rename_replaces(self):
        db = self.db
        for name in ("a", "b"):
            db.open(name, PK)
            db.modify(name, {"id": 1, "from": name})
        db.call("rename", "a", "b")
        self.assertEqual(db.select(Query("b")).docs(), [{"id": 1, "from": "a"}])

    def test_names(self):
        for name in ("", "a b", "a/b", "käse", "#own"):
            with self.subTest(name):
                self.refused(3, self.db.call, "open", json.dumps({"name": name}))
        self.db.call("open", json.dumps({"name": "Case-1_x"}))
        self.assertIsNotNone(self.described("case-1_x") or self.described("Case-1_x"))
        self.refused(5, self.db.call, "open", "{")
        for name in ("truncate", "begin_tx", "enum_meta"):
            self.refused(13, self.db.call, name, "none")

    def test_definition_with_indexes(self):
        self.db.call("open", json.dumps({"name": "whole", "storage": {"enabled": True}, "indexes": [PK, index("n", "int", "tree")]}))
        self.assertEqual([i["name"] for i in self.described("whole")["indexes"]], ["id", "n"])

    def test_enum(self):
        self.db.open("one", PK)
        value, = self.db.call("enum_namespaces", 0, "")
        self.assertIn("one", [n["name"] for n in json.loads(value)["items"]])
        value, = self.db.call("enum_namespaces", 2 | 4, "")
        self.assertEqual(json.loads(value)["items"], [{"name": "one"}])

    def test_schema(self):
        text = '{"type":"object","properties":{"id":{"type":"number"}},"additionalProperties":false}'
        self.db.open("s", PK)
        self.db.call("set_schema", "s", text)
        self.assertEqual(json.loads(self.described("s")["schema"]), json.loads(text))
        self.refused(13, self.db.call, "set_schema", "none", text)

    def test_persistence(self):
        db = self.db
        db.open("kept", PK, vector_index("v", "hnsw", 3))
        db.upsert_all("kept", [{"id": i, "v": Vector([i, 1, 0]), "sub": {"n": [1, "two", None]}} for i in range(20)])
        before = db.state("kept")
        self.server.restart(9)
        again = self.connect()
        self.assertNotEqual(before.token, 0)
        got = again.select(Query("kept").select("*", "vectors()").sort("id"))
        self.assertEqual(got.docs()[7], {"id": 7, "v": [7.0, 1.0, 0.0], "sub": {"n": [1, "two", None]}})
        # A client that kept its dictionary over the restart is told what changed, or nothing did.
        again.states["kept"] = before
        self.assertEqual(again.select(Query("kept").where("id", "eq", 3)).docs()[0]["sub"], {"n": [1, "two", None]})


class Indexes(Case):
    def test_kinds(self):
        self.db.open("t", PK)
        legal = {"int": ["", "hash", "tree", "-"], "int64": ["", "hash", "tree", "-", "ttl"], "string": ["", "hash", "tree", "-"], "double": ["", "tree", "-"],
                 "bool": ["", "-"], "uuid": ["", "hash", "-"]}
        for field, kinds in legal.items():
            for kind in kinds:
                with self.subTest(field, kind=kind):
                    self.add("t", index(f"{field}_{kind or 'def'}".replace("-", "col"), field, kind))
        self.add("t", index("p", "point", "rtree", is_array=True))
        self.add("t", index("int_hash+string_hash", "composite", "hash", path=["int_hash", "string_hash"]))
        for field, kind in (("bool", "hash"), ("uuid", "tree"), ("double", "hash"), ("int", "ttl"), ("int", "hnsw"), ("float_vector", ""), ("float_vector", "hash"), ("none", "hash"), ("int", "none")):
            with self.subTest(field, kind=kind):
                self.refused(3, self.add, "t", index("bad", field, kind))

    def test_vectors(self):
        self.db.open("t", PK)
        for kind, config in (("vec_bf", {}), ("vec_bf", {"start_size": 10}), ("hnsw", {"m": 2, "ef_construction": 4, "multithreading": 1}), ("ivf", {"centroids_count": 1}), ("hnsw", {"radius": 0.5})):
            for metric in ("l2", "inner_product", "cosine"):
                with self.subTest(kind, metric=metric, config=config):
                    name = f"{kind}{len(config)}{metric}{sorted(config)[0] if config else ''}"
                    self.add("t", vector_index(name, kind, 4, metric, **config))
        self.add("t", vector_index("upper", "hnsw", 4, "L2"))
        for kind, config in (("hnsw", {"m": 1}), ("hnsw", {"m": 129}), ("hnsw", {"ef_construction": 3}), ("hnsw", {"dimension": 0}), ("hnsw", {"dimension": 65536}), ("hnsw", {"metric": "none"}),
                             ("ivf", {}), ("ivf", {"centroids_count": 0}), ("vec_bf", {"m": 8}), ("hnsw", {"centroids_count": 3})):
            with self.subTest(kind, config=config):
                definition = vector_index("bad", kind, 4)
                definition["config"].update(config)
                with self.assertRaises(Refused) as caught:
                    self.add("t", definition)
                self.assertIn(caught.exception.code, (3, 5), caught.exception.text)  # 5: a number out of bounds, as recorded
        self.refused(11, self.add, "t", {**vector_index("bad", "hnsw", 4), "is_pk": True})
        self.refused(11, self.add, "t", {**vector_index("bad", "hnsw", 4), "is_sparse": True})

    def test_add_again(self):
        first = vector_index("v", "hnsw", 4)
        self.db.open("t", PK, first, index("n", "int", "tree"))
        self.add("t", first)
        self.add("t", {**first, "config": {**first["config"], "radius": 3.0}})
        for change in ({"dimension": 5}, {"metric": "cosine"}, {"m": 20}):
            with self.subTest(change):
                self.refused(7, self.add, "t", {**first, "config": {**first["config"], **change}})
        for change in ({"index_type": "hash"}, {"field_type": "int64"}, {"is_array": True}, {"is_sparse": True}, {"json_paths": ["other"]}):
            with self.subTest(change):
                self.refused(7, self.add, "t", {**index("n", "int", "tree"), **change})
        self.refused(7, self.add, "t", index("second", "int", is_pk=True))

    def test_bad_definitions(self):
        self.db.open("t", PK)
        for text, code in (("", 5), ("{", 5), ("[]", None), ('{"name":"x"}', 3)):
            with self.subTest(text), self.assertRaises(Refused) as caught:
                self.db.call("add_index", "t", text)
            if code:
                self.assertEqual(caught.exception.code, code, caught.exception.text)
        for definition in (index("a b", "int"), index("x", "int", path=[]), index("x", "int", path=[""]), index("x", "int", path=["a", "b"])):
            with self.subTest(definition["name"], path=definition["json_paths"]):
                self.refused(3, self.add, "t", definition)
        self.refused(13, self.add, "none", index("x", "int"))

    def test_update_and_drop(self):
        db = self.db
        db.open("t", PK, index("n", "int", "hash"), vector_index("v", "hnsw", 2))
        db.upsert_all("t", [{"id": i, "n": i % 3, "v": Vector([i, 0])} for i in range(9)])
        db.call("update_index", "t", json.dumps(index("n", "int", "tree")))
        self.assertEqual(db.select(Query("t").where("n", "gt", 1).sort("id")).ids(), [2, 5, 8])
        db.call("update_index", "t", json.dumps(vector_index("v", "vec_bf", 2)))
        self.assertEqual(db.select(Query("t").knn("v", [4, 0], kind="bf", k=1)).ids(), [4])
        self.refused(3, db.call, "update_index", "t", json.dumps(index("none", "int")))
        self.refused(3, db.call, "update_index", "t", json.dumps(index("n", "int", "tree", is_array=True)))
        db.call("drop_index", "t", "n")
        self.assertEqual(db.select(Query("t").where("id", "eq", 5)).docs(), [{"id": 5, "n": 2}])
        self.refused(3, db.call, "drop_index", "t", "n")
        self.refused(4, db.call, "drop_index", "t", "id")  # the key of documents with vectors

    def test_add_to_data(self):
        db = self.db
        db.open("t", PK)
        db.upsert_all("t", [{"id": 1, "v": Vector([1, 0]), "w": [1, 2, 3]}, {"id": 2, "v": Vector([0, 1])}, {"id": 3}])
        self.add("t", vector_index("v", "hnsw", 2))
        self.assertEqual(db.select(Query("t").knn("v", [0, 1], k=5)).ids(), [2, 1])
        with self.assertRaises(Refused):
            self.add("t", vector_index("w", "hnsw", 2))

    def test_many(self):
        """255 indexes, and their definitions read back."""
        self.db.open("wide", PK, *[index(f"f{i}", ("int", "string", "double", "bool")[i % 4]) for i in range(254)])
        self.refused(7, self.add, "wide", index("last", "int"))
        self.db.modify("wide", {"id": 1, **{f"f{i}": (i, str(i), i / 2, True)[i % 4] for i in range(254)}})
        self.assertEqual(self.db.select(Query("wide").where("f253", "eq", "253")).docs()[0]["f250"], 125.0)
        self.assertEqual(len(self.described("wide")["indexes"]), 255)

    def test_described(self):
        config = {"embedding": {"query_embedder": {"URL": "http://127.0.0.1:1", "cache_tag": "c", "pool": {"connections": 2}}}}
        self.db.open("t", PK, index("s", "string", "tree"), index("a", "int", "hash", is_array=True), vector_index("v", "hnsw", 3, "cosine", m=8, **config))
        got = {i["name"]: i for i in self.described("t")["indexes"]}
        self.assertEqual(set(got["id"]["conditions"]), {"SET", "ALLSET", "EQ", "LT", "LE", "GT", "GE", "RANGE"})
        self.assertEqual(set(got["a"]["conditions"]), {"SET", "ALLSET", "EQ", "ANY", "EMPTY", "LT", "LE", "GT", "GE", "RANGE"})
        self.assertIn("LIKE", got["s"]["conditions"])
        self.assertEqual(set(got["v"]["conditions"]), {"KNN", "ANY", "EMPTY"})
        self.assertEqual([got[n]["is_sortable"] for n in ("id", "s", "v")], [True, True, False])
        self.assertEqual((got["v"]["config"]["metric"], got["v"]["config"]["dimension"], got["v"]["config"]["m"]), ("cosine", 3, 8))
        self.assertEqual(got["v"]["config"]["embedding"]["query_embedder"]["URL"], "http://127.0.0.1:1")


class Items(Case):
    def test_modes(self):
        db = self.db
        db.open("t", PK)
        steps = [(UPDATE, {"id": 1, "a": 1}, 0), (INSERT, {"id": 1, "a": 2}, 1), (INSERT, {"id": 1, "a": 3}, 0), (UPDATE, {"id": 1, "b": 4}, 1), (UPSERT, {"id": 2, "a": 5}, 1),
                 (UPSERT, {"id": 2, "a": 6}, 1), (DELETE, {"id": 3}, 0), (DELETE, {"id": 1}, 1)]
        last = 0
        for mode, doc, count in steps:
            with self.subTest(mode=mode, doc=doc):
                got = db.modify("t", doc, mode)
                self.assertEqual((got.count, got.query_count, got.handle, got.uid), (count, count, -1, -1))
                if mode != DELETE and got.rows and got.rows[0].lsn is not None:
                    self.assertGreater(got.rows[0].lsn, last)
                    last = got.rows[0].lsn
        self.assertEqual(db.select(Query("t")).docs(), [{"id": 2, "a": 6}])

    def test_first_write(self):
        """Exactly one error 14, then success; afterwards known names need no dictionary."""
        db = self.db
        db.open("docs", PK, vector_index("vec", "hnsw", 2))
        doc = {"id": 7, "name": "hi", "vec": Vector([1, 0.5])}
        data, token = db.item("docs", doc)
        self.assertEqual((data[:1], token), (b"\x07", 0))
        self.refused(14, db.call, "modify", "docs", ITEM_CJSON, data, UPSERT, "", token, 0)
        learned = db.refresh("docs")
        self.assertEqual(learned.types[0][0], "docs")
        state = db.state("docs")
        self.assertEqual(state.names[:2], ["id", "vec"])
        self.assertNotIn(state.token, (0, 1, -1))
        data, token = db.item("docs", doc)
        got = db.result(db.call("modify", "docs", ITEM_CJSON, data, UPSERT, "", token, 0), ["docs"])
        self.assertEqual(got.count, 1)
        self.assertIn(0, got.types, "the reply brings the new dictionary")
        version = state.version
        data, token = db.item("docs", {"id": 8, "name": "yo", "vec": Vector([0, 1])})
        self.assertEqual(data[:1], b"\x06")
        self.assertEqual(data, bytes.fromhex("0608101A02796F150200000900000000 0000803F07".replace(" ", "")))
        got = db.result(db.call("modify", "docs", ITEM_CJSON, data, UPSERT, "", token, 0), ["docs"])
        self.assertEqual((got.count, state.version), (1, version))
        got = db.select(Query("docs").knn("vec", [1, 0], kind="hnsw", k=2, ef=10).select("*", "vectors()").rank().limit(2))
        self.assertEqual((got.ids(), got.ranks(), got.flags & 0x440, got.types), ([7, 8], [0.25, 2.0], 0x440, {}))
        self.assertEqual(got.docs()[0], doc)
        self.assertIsInstance(got.docs()[0]["vec"], Vector)

    def test_tokens(self):
        """Different for every namespace and for the next of the same name; kept by truncate and rename."""
        db, tokens = self.db, []
        for name in ("a", "b"):
            db.open(name, PK)
            db.refresh(name)
            tokens.append(db.state(name).token)
        db.call("truncate", "a")
        db.states.clear()
        db.refresh("a")
        self.assertEqual(db.state("a").token, tokens[0])
        db.call("rename", "a", "c")
        db.refresh("c")
        self.assertEqual(db.state("c").token, tokens[0])
        db.call("drop", "b")
        db.open("b", PK)
        db.states.clear()
        db.refresh("b")
        tokens.append(db.state("b").token)
        self.assertEqual(len(set(tokens)), 3)
        self.assertTrue(all(abs(a - b) > 1000 for a in tokens for b in tokens if a != b), tokens)

    def test_two_writers(self):
        """Each adds names the other does not know; an item with a dictionary is read with that."""
        first, second = self.db, self.connect()
        first.open("t", PK)
        for one in (first, second):
            one.refresh("t")
        a, token = first.item("t", {"id": 1, "from_a": "x", "both": 1})
        b, _ = second.item("t", {"id": 2, "from_b": "y", "both": 2, "deep": {"from_b": [1, 2]}})
        first.call("modify", "t", ITEM_CJSON, a, UPSERT, "", token, 0)
        second.call("modify", "t", ITEM_CJSON, b, UPSERT, "", token, 0)
        third = self.connect()
        want = [{"id": 1, "from_a": "x", "both": 1}, {"id": 2, "from_b": "y", "both": 2, "deep": {"from_b": [1, 2]}}]
        for one in (first, second, third):
            self.assertEqual(one.select(Query("t").sort("id")).docs(), want)

    def test_values(self):
        db = self.db
        db.open("t", PK)
        wide = uuid.UUID("d7b4e1c0-1111-4222-8333-0123456789ab")
        values = {"zero": 0, "small": -1, "large": 2**63 - 1, "least": -2**63, "double": 1.5, "tiny": 5e-324, "text": "käse \0 \U0001f9c0", "empty": "", "yes": True, "no": False, "null": None,
                  "uuid": wide, "ints": [1, -2, 3], "doubles": [0.5, 1.5], "texts": ["a", ""], "bools": [True, False], "floats": Vector([0.5, -2]), "none": [], "nulls": [None, None],
                  "mixed": [1, "a", None, 2.5, True], "nested": [[1, 2], [], [[3]]], "objects": [{"a": 1}, {}, {"b": {"c": [1]}}], "object": {}, "deep": {"a": {"b": {"c": {"d": 1}}}},
                  "uuids": [wide, wide], "long": "x" * 70_000}
        for name, value in values.items():
            with self.subTest(name):
                db.modify("t", {"id": 1, name: value})
                got = db.select(Query("t")).docs()[0]
                want = str(value) if isinstance(value, uuid.UUID) else [str(v) for v in value] if name == "uuids" else value
                have = got.get(name)
                have = str(have) if isinstance(have, uuid.UUID) else [str(v) for v in have] if name == "uuids" else have
                self.assertEqual(have, want)
        db.modify("t", {"id": 1, **values})
        self.assertEqual(len(db.select(Query("t")).docs()[0]), 1 + len(values))

    def test_repeated_names(self):
        """Fields of one name are one array, where an index says so."""
        db = self.db
        db.open("t", PK, index("a", "int", "hash", is_array=True))
        db.refresh("t")
        names = db.state("t").names
        tag = names.tag("a")
        body = ctag(6) + ctag(0, names.tag("id")) + varuint(2) + ctag(5, tag) + atag(0, 2) + varuint(2) + varuint(4) + ctag(0, tag) + varuint(6) + ctag(7)
        db.call("modify", "t", ITEM_CJSON, body, UPSERT, "", db.state("t").token, 0)
        for value in (1, 2, 3):
            self.assertEqual(db.select(Query("t").where("a", "eq", value).select("id")).count, 1)

    def test_vectors(self):
        db = self.db
        db.open("t", PK, vector_index("v", "hnsw", 3))
        for i, value in enumerate((Vector([1, 2, 3]), [1.0, 2.0, 3.0], [1, 2, 3], [1, 2.5, F32(3)])):
            db.modify("t", {"id": i, "v": value})
        db.modify("t", {"id": 10, "v": Vector()})
        db.modify("t", {"id": 11, "v": None})
        db.modify("t", {"id": 12})
        got = db.select(Query("t").select("*", "vectors()").sort("id")).docs()
        for doc in got[:4]:
            self.assertIsInstance(doc["v"], Vector)
        self.assertEqual([d["v"] for d in got[:4]], [[1, 2, 3]] * 3 + [[1, 2.5, 3]])
        self.assertEqual([d.get("v") for d in got[4:6]], [[], []])
        self.assertNotIn("v", got[6])
        self.assertEqual(db.select(Query("t").where("v", "empty").sort("id")).ids(), [10, 11, 12])
        self.assertEqual(db.select(Query("t").where("v", "any").sort("id")).ids(), [0, 1, 2, 3])
        for bad in (Vector([1]), Vector([1, 2, 3, 4]), [1.0, 2.0], "text", {"a": 1}, ["a", "b", "c"]):
            with self.subTest(bad), self.assertRaises(Refused) as caught:
                db.modify("t", {"id": 99, "v": bad})
            self.assertIn(caught.exception.code, (3, 4, 11))

    def test_arrays_of_vectors(self):
        db = self.db
        db.open("t", PK, vector_index("v", "hnsw", 2, is_array=True))
        db.upsert_all("t", [{"id": 1, "v": [Vector([0, 0]), Vector([9, 9])]}, {"id": 2, "v": [Vector([5, 5])]}, {"id": 3, "v": []}, {"id": 4, "v": Vector([20, 20])}])
        got = db.select(Query("t").knn("v", [9, 8], k=10).rank())
        self.assertEqual((got.ids(), got.ranks()), ([1, 2, 4], [1.0, 25.0, 265.0]))
        self.assertEqual(db.select(Query("t").where("id", "eq", 1).select("*", "vectors()")).docs()[0]["v"], [[0, 0], [9, 9]])

    def test_many_writes(self):
        """A vector is the same bytes after the way in and out."""
        rng = random.Random(4)
        db = self.db
        db.open("t", PK, vector_index("v", "vec_bf", 128))
        docs = [{"id": i, "v": Vector(struct.unpack("<128f", struct.pack("<128f", *(rng.gauss(0, 1) for _ in range(128)))))} for i in range(200)]
        db.upsert_all("t", docs)
        self.assertEqual(db.select(Query("t").select("*", "vectors()").sort("id")).docs(), docs)

    def test_json_items(self):
        """Format 0 needs no token."""
        db = self.db
        db.open("t", PK, vector_index("v", "hnsw", 2))
        got = db.result(db.call("modify", "t", ITEM_JSON, '{"id":1,"v":[1,2],"a":{"b":[1,2.5,"x",null]}}', UPSERT, "", 0, 0), ["t"])
        self.assertEqual(got.count, 1)
        self.assertEqual(db.select(Query("t").select("*", "vectors()")).docs(), [{"id": 1, "v": [1.0, 2.0], "a": {"b": [1, 2.5, "x", None]}}])
        self.refused(5, db.call, "modify", "t", ITEM_JSON, '{"id":', UPSERT, "", 0, 0)
        self.refused(3, db.call, "modify", "t", 7, "{}", UPSERT, "", 0, 0)
        self.refused(3, db.call, "modify", "t", ITEM_JSON, '{"id":1}', 9, "", 0, 0)

    def test_precepts(self):
        db = self.db
        db.open("t", PK, index("n", "int64"), index("at", "int64"), index("s", "string"))
        got = [db.modify("t", {"id": 0, "n": 0, "at": 0, "s": ""}, precepts=("id=serial()", "at=now(msec)")) for _ in range(3)]
        self.assertEqual([(r.flags & 2, r.docs()[0]["id"], r.docs()[0]["s"]) for r in got], [(2, i, "") for i in (1, 2, 3)])
        self.assertGreater(got[0].docs()[0]["at"], 1_500_000_000_000)
        self.assertEqual(db.select(Query("t").sort("id")).ids(), [1, 2, 3])
        for bad in ("none", "id=", "=1", "id=random()", "s=fixed"):
            with self.subTest(bad), self.assertRaises(Refused):
                db.modify("t", {"id": 9}, precepts=(bad,))

    def test_no_key(self):
        self.db.call("open", '{"name":"t"}')
        self.refused(4, self.db.modify, "t", {"id": 1})
        self.refused(4, self.db.call, "begin_tx", "t")
        self.refused(13, self.db.call, "modify", "none", ITEM_CJSON, b"\x06\x07", UPSERT, "", 0, 0)

    def test_huge(self):
        """Items and replies of many megabytes."""
        db = self.db
        db.open("t", PK)
        docs = [{"id": i, "text": chr(97 + i) * (6 << 20), "ints": list(range(200_000))} for i in range(3)]
        db.upsert_all("t", docs)
        self.assertEqual(db.select(Query("t").sort("id")).docs(), docs)

    def test_wrong_cjson(self):
        """Whatever bytes: an error (or an item that reads back), and the connection and the server go on."""
        db = self.db
        db.open("t", PK, index("s", "string"), vector_index("v", "hnsw", 2))
        db.refresh("t")
        state = db.state("t")
        idf = ctag(0, state.names.tag("id")) + b"\x0e"
        vec = ctag(5, state.names.tag("v"))
        def bundle(body, where=None, names=b"\x01\x02id"):
            return b"\x07" + struct.pack("<I", 5 + len(body) if where is None else where) + body + names
        cases = {
            "nothing": (b"", None), "no object": (b"\x08\x0e", None), "no end": (b"\x06" + idf, None), "unknown name": (b"\x06" + idf + ctag(0, 4000) + b"\x02\x07", 21),
            "name 0": (b"\x06" + idf + ctag(0, 0) + b"\x02\x07", None), "field index": (b"\x06" + ctag(0, 1, 1) + b"\x0e\x07", 4), "type 10": (b"\x06" + idf + ctag(10, 2) + b"\x07", None),
            "type 63": (b"\x06" + idf + ctag(63, 2) + b"\x07", None), "string too long": (b"\x06" + idf + ctag(2, 2) + b"\xff\xff\xff\x7f" + b"a\x07", None),
            "array too long": (b"\x06" + idf + vec + atag(9, 0xFFFFFF) + b"\0\0\0\0\x07", None), "array of ends": (b"\x06" + idf + vec + atag(7, 3) + b"\x07", None),
            "nulls beyond the bytes": (b"\x06" + idf + vec + atag(4, 0xFFFFFF) + b"\x07", None), "wrong length": (b"\x06" + idf + vec + atag(9, 3) + bytes(12) + b"\x07", None),
            "atag with more bits": (b"\x06" + idf + vec + struct.pack("<I", 0xC9000002) + bytes(8) + b"\x07", None),
            "varuint of 11 bytes": (b"\x06" + ctag(0, 1) + b"\xff" * 11 + b"\x07", None), "end inside an array": (b"\x06" + idf + vec + atag(6, 2) + b"\x07\x07\x07", None),
            "deep": (b"\x06" + idf + (ctag(6, 2) * 100_000), None), "deep arrays": (b"\x06" + idf + vec + (atag(6, 1) + b"\x05") * 100_000, None),
            "bundle without a document": (b"\x07\x05\0\0\0\0", None), "bundle behind the end": (bundle(b"\x06\x08\x0e\x07", 1000), None), "bundle inside its head": (bundle(b"\x06\x08\x0e\x07", 2), None),
            "bundle of many names": (bundle(b"\x06\x08\x0e\x07", None, varuint(5000) + b"\x01a" * 5000), None), "bundle names cut": (bundle(b"\x06\x08\x0e\x07", None, b"\x05\x02id"), None),
            "bundle count lies": (bundle(b"\x06\x08\x0e\x07", None, varuint(1 << 60)), None), "key is no number": (b"\x06" + ctag(2, 1) + b"\x01a\x07", None), "no key": (b"\x06\x07", None),
        }
        for name, (data, code) in cases.items():
            with self.subTest(name):
                try:
                    db.call("modify", "t", ITEM_CJSON, data, UPSERT, "", state.token, 0)
                except Refused as error:
                    if code:
                        self.assertEqual(error.code, code, error.text)
                else:
                    self.assertIn(name, ("nulls beyond the bytes", "no key", "bundle of many names"), "accepted")
                self.assertLess(db.select(Query("t")).count, 3)

    def test_damaged_cjson(self):
        """Random damage, fixed seed. What is accepted must read back."""
        rng = random.Random(11)
        db = self.db
        db.open("t", PK, vector_index("v", "vec_bf", 2))
        good = {"id": 5, "v": Vector([1, 2]), "a": [1, "x", None, {"b": [1, 2]}], "s": "text", "d": 1.5, "u": uuid.UUID(int=5)}
        db.modify("t", good)
        data, token = db.item("t", good)
        for _ in range(2000):
            body = bytearray(data)
            for _ in range(rng.randrange(1, 3)):
                body[rng.randrange(len(body))] = rng.choice((0, 1, 5, 6, 7, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            if rng.random() < 0.2:
                del body[rng.randrange(1, len(body)):]
            try:
                db.call("modify", "t", ITEM_CJSON, bytes(body), UPSERT, "", token, 0)
            except Refused:
                pass
        got = db.select(Query("t").select("*", "vectors()"), limit=10_000)
        self.assertEqual(len(got.rows), got.count)


class Transactions(Case):
    def setUp(self):
        super().setUp()
        self.db.open("t", PK, vector_index("v", "hnsw", 2))

    def test_commit(self):
        db = self.db
        db.upsert_all("t", [{"id": 1, "a": "old"}, {"id": 2}])
        tx = db.begin("t")
        for mode, doc in ((INSERT, {"id": 3, "v": Vector([1, 2])}), (INSERT, {"id": 1, "a": "no"}), (UPSERT, {"id": 4, "fresh": 1}), (UPDATE, {"id": 1, "a": "new"}), (UPDATE, {"id": 9}), (DELETE, {"id": 2})):
            self.assertEqual(db.tx_item("t", tx, doc, mode), [])
        self.assertEqual(self.connect().select(Query("t").sort("id")).ids(), [1, 2], "nothing before the commit")
        got = db.commit("t", tx)
        self.assertEqual((got.count, got.handle), (4, -1))
        self.assertEqual(db.select(Query("t").sort("id")).docs(), [{"id": 1, "a": "new"}, {"id": 3}, {"id": 4, "fresh": 1}])
        self.refused(4, db.commit, "t", tx)

    def test_rollback_and_loss(self):
        db = self.db
        tx = db.begin("t")
        db.tx_item("t", tx, {"id": 1})
        self.assertEqual(db.call("rollback_tx", tx), [])
        self.refused(4, db.call, "rollback_tx", tx)
        other = self.connect()
        lost = other.begin("t")
        other.tx_item("t", lost, {"id": 2})
        other.sock.close()
        self.assertEqual(db.select(Query("t")).count, 0)
        self.refused(4, db.call, "commit_tx", I64(1 << 40))
        self.refused(13, db.call, "begin_tx", "none")

    def test_numbers_belong_to_connections(self):
        other = self.connect()
        tx = self.db.begin("t")
        self.refused(4, other.call, "commit_tx", I64(tx + 1000))
        mine = other.begin("t")
        other.tx_item("t", mine, {"id": 5})
        self.db.tx_item("t", tx, {"id": 6})
        self.assertEqual(other.commit("t", mine).count, 1)
        self.assertEqual(self.db.select(Query("t")).ids(), [5])
        self.assertEqual(self.db.commit("t", tx).count, 1)

    def test_queries(self):
        db = self.db
        db.upsert_all("t", [{"id": i, "n": i} for i in range(10)])
        tx = db.begin("t")
        db.call("update_query_tx", Query("t").where("id", "lt", 3).set("n", 100).pack(end=False), tx)
        db.call("delete_query_tx", Query("t").where("id", "gt", 7).pack(end=False), tx)
        db.tx_item("t", tx, {"id": 9, "n": 9})
        self.assertEqual(db.select(Query("t").where("n", "eq", 100)).count, 0)
        self.assertEqual(db.commit("t", tx).count, 6)
        self.assertEqual(db.select(Query("t").where("n", "eq", 100).sort("id")).ids(), [0, 1, 2])
        self.assertEqual(db.select(Query("t")).count, 9)

    def test_async(self):
        """Ten thousand items, 500 in flight."""
        db = self.db
        db.modify("t", {"id": 0, "v": Vector([0, 0])})
        tx = db.begin("t")
        flying = 0
        for i in range(10_000):
            data, token = db.item("t", {"id": i, "v": Vector([i, 1])})
            db.send(request("add_tx_item", ITEM_CJSON, data, UPSERT, "", token, tx, seq=1000 + i))
            flying += 1
            while flying >= 500 or (i == 9999 and flying):
                self.assertEqual(db.reply()[2:], (0, "", []))
                flying -= 1
        self.assertEqual(db.commit("t", tx).count, 10_000)
        self.assertEqual(db.select(Query("t").knn("v", [5000, 1], k=1)).ids(), [5000])

    def test_wrong_item(self):
        db = self.db
        db.modify("t", {"id": 0})
        tx = db.begin("t")
        db.tx_item("t", tx, {"id": 1})
        with self.assertRaises(Refused):
            db.call("add_tx_item", ITEM_CJSON, b"\x06\x08", UPSERT, "", db.state("t").token, tx)
        self.refused(14, db.call, "add_tx_item", ITEM_CJSON, document({"id": 1}, Names()), UPSERT, "", 12345, tx)
        db.call("rollback_tx", tx)
        self.assertEqual(db.select(Query("t")).ids(), [0])

    def test_limit(self):
        """1024 open ones on a connection."""
        numbers = [self.db.begin("t") for _ in range(1024)]
        self.refused(9, self.db.call, "begin_tx", "t")
        for tx in numbers:
            self.db.call("rollback_tx", tx)
        self.db.call("rollback_tx", self.db.begin("t"))


class Meta(Case):
    def test_round_trip(self):
        db = self.db
        db.open("t", PK)
        self.assertEqual(db.call("enum_meta", "t"), [])
        values = {"key": b"value", "empty": b"", "bytes": bytes(range(256)), "long": b"x" * 1_000_000, "käse": "käse".encode()}
        for key, value in values.items():
            self.assertEqual(db.call("put_meta", "t", key, value), [])
        self.assertEqual({k.decode() for k in db.call("enum_meta", "t")}, set(values))
        for key, value in values.items():
            with self.subTest(key):
                self.assertEqual(db.call("get_meta", "t", key), [value])
        db.call("put_meta", "t", "key", "other")
        self.assertEqual(db.call("get_meta", "t", "key"), [b"other"])
        self.assertEqual(db.call("get_meta", "t", "unknown"), [b""])
        db.call("delete_meta", "t", "key")
        db.call("delete_meta", "t", "key")
        self.assertEqual(db.call("get_meta", "t", "key"), [b""])
        self.refused(3, db.call, "get_meta", "t", "")
        self.refused(13, db.call, "get_meta", "none", "key")


class System(Case):
    def test_all_answer(self):
        """A client asks each of them after a reconnect."""
        self.db.open("t", PK)
        for name in ("#namespaces", "#config", "#memstats", "#perfstats", "#queriesperfstats", "#clientsstats", "#replicationstats", "#activitystats"):
            with self.subTest(name):
                self.db.select(Query(name).limit(0))
                got = self.db.select(Query(name))
                self.assertEqual(got.count, len(got.rows))
                self.assertNotEqual(self.db.state(name).token, 0)

    def test_memstats(self):
        self.db.open("t", PK)
        self.db.upsert_all("t", [{"id": i} for i in range(5)])
        row = self.db.select(Query("#memstats").where("name", "eq", "t")).docs()[0]
        self.assertEqual(row["items_count"], 5)
        self.assertEqual(row["tags_matcher"]["state_token"] & 0xFFFFFFFF, self.db.state("t").token & 0xFFFFFFFF)

    def test_config(self):
        db = self.db
        rows = {row["type"]: row for row in db.select(Query("#config")).docs()}
        self.assertLessEqual({"profiling", "namespaces", "replication", "embedders"}, set(rows))
        self.assertEqual(rows["profiling"]["profiling"]["queries_threshold_us"], 10)
        changed = db.select(Query("#config").where("type", "eq", "profiling")).docs()[0]
        changed["profiling"]["queries_threshold_us"] = 77
        self.assertEqual(db.modify("#config", changed).count, 1)
        self.assertEqual(db.select(Query("#config").where("type", "eq", "profiling")).docs()[0]["profiling"]["queries_threshold_us"], 77)

    def test_actions(self):
        db = self.db
        db.open("t", PK, vector_index("v", "ivf", 2, centroids_count=2), vector_index("h", "hnsw", 2))
        db.upsert_all("t", [{"id": i, "v": Vector([i, i % 3]), "h": Vector([i, 1])} for i in range(50)])
        for action in ({"command": "rebuild_ivf_index", "namespace": "*", "index": "*", "data_part": 0.5}, {"command": "drop_ann_storage_cache", "namespace": "t", "index": "h"}, {"command": "unknown"}):
            with self.subTest(action["command"]):
                db.modify("#config", {"type": "action", "action": action})
        self.assertEqual(db.select(Query("t").knn("v", [30, 0], kind="ivf", k=1, nprobe=2)).ids(), [30])

    def test_clients(self):
        rows = self.db.select(Query("#clientsstats")).docs()
        self.assertTrue(any(row.get("app_name") == "annex-tests" for row in rows), rows)


class Events(Case):
    def read(self, db, n):
        while len(db.events) < n:
            try:
                db.event()
            except TimeoutError:
                self.fail(f"{len(db.events)} events of {n}")
        out = []
        for data in db.events[:n]:
            reader = Reader(data)
            assert reader.varuint() == 1
            options = reader.varuint()
            streams = reader.number("I")
            event = {"streams": streams, "db": reader.text() if options & 8 else None, "ns": reader.text(), "type": reader.varint()}
            if options & 32:
                event["lsn"] = (reader.varint(), reader.varint())
            if options & 64:
                event["server"] = reader.varint()
            if options & 16:
                event["shard"] = reader.varint()
            if options & 128:
                event["time"] = reader.varint()
            out.append(event)
        return out

    def subscribe(self, db, *streams, **options):
        config = {"version": 1, "subscription_type": 0, "streams": list(streams), "with_db_name": False, "with_server_id": False, "with_shard_id": False, "with_lsn": False,
                  "with_timestamp": False, "data_type": "none", **options}
        db.call("subscribe", 1, "", 0, json.dumps(config))

    def test_writes(self):
        listener, db = self.connect(), self.db
        db.open("t", PK)
        self.subscribe(listener, {"id": 0, "namespaces": [{"name": "t"}], "event_types": []}, with_lsn=True, with_timestamp=True, with_db_name=True)
        db.modify("t", {"id": 1})
        db.modify("t", {"id": 1}, UPDATE)
        db.modify("t", {"id": 2}, INSERT)
        db.modify("t", {"id": 2}, DELETE)
        db.call("put_meta", "t", "k", "v")
        db.call("truncate", "t")
        events = self.read(listener, 6)
        self.assertEqual([e["type"] for e in events], [2, 1, 4, 3, 12, 19])
        self.assertTrue(all(e["ns"] == "t" and e["db"] == self.name and e["streams"] == 1 and e["time"] > 1.5e18 for e in events), events)
        lsn = [e["lsn"][1] for e in events]
        self.assertEqual(lsn, sorted(lsn))
        self.assertEqual(listener.call("ping"), [])

    def test_streams(self):
        listener, db = self.connect(), self.db
        for name in ("a", "b"):
            db.open(name, PK)
        self.subscribe(listener, {"id": 3, "namespaces": [{"name": "b"}], "event_types": ["ItemUpsert"]}, {"id": 5, "namespaces": [], "event_types": ["ItemUpsert", "ItemDelete"]})
        db.modify("a", {"id": 1})
        db.modify("b", {"id": 1})
        db.modify("b", {"id": 1}, DELETE)
        self.assertEqual([(e["ns"], e["type"], e["streams"]) for e in self.read(listener, 3)], [("a", 2, 32), ("b", 2, 40), ("b", 3, 32)])
        self.subscribe(listener)  # no stream: silence again
        del listener.events[:]
        db.modify("a", {"id": 2})
        listener.call("ping")
        self.assertEqual(listener.events, [])

    def test_transaction(self):
        listener, db = self.connect(), self.db
        db.open("t", PK)
        db.refresh("t")
        self.subscribe(listener, {"id": 0, "namespaces": [], "event_types": []})
        tx = db.begin("t")
        for i in range(3):
            db.tx_item("t", tx, {"id": i})
        db.commit("t", tx)
        self.assertEqual([e["type"] for e in self.read(listener, 5)], [20, 6, 6, 6, 21])

    def test_refused(self):
        listener = self.connect()
        for text in ("", "{", '{"version":1,"streams":[{"id":32}]}'):
            with self.subTest(text), self.assertRaises(Refused):
                listener.call("subscribe", 1, "", 0, text)


class Mixed(Case):
    """RPC and HTTP on one database."""

    def test_both(self):
        db, base = self.db, f"/api/v1/db/{self.name}"
        db.open("t", PK, vector_index("v", "hnsw", 2))
        self.server.rest("POST", base + "/namespaces/t/items", {"id": 1, "v": [1, 2], "over": {"http": [1, "x"]}})
        db.modify("t", {"id": 2, "v": Vector([3, 4]), "over": {"rpc": [1.5, None]}})
        want = [{"id": 1, "v": [1, 2], "over": {"http": [1, "x"]}}, {"id": 2, "v": [3, 4], "over": {"rpc": [1.5, None]}}]
        self.assertEqual(db.select(Query("t").select("*", "vectors()").sort("id")).docs(), want)
        status, got = self.server.rest("POST", base + "/sqlquery", "SELECT *, vectors() FROM t ORDER BY id")
        self.assertEqual((status, got["items"]), (200, want))
        status, got = self.server.rest("POST", base + "/sqlquery", "SELECT *, rank() FROM t WHERE KNN(v, [3, 3], k=1)")
        rpc = db.select(Query("t").knn("v", [3, 3], k=1).rank(), flags=0x2000 | JSON).docs()
        self.assertEqual(got["items"], rpc)
        db.call("drop", "t")
        self.assertEqual(self.server.rest("GET", base + "/namespaces/t")[0], 404)
        self.server.rest("POST", base + "/namespaces", {"name": "h", "storage": {"enabled": True}, "indexes": [PK]})
        db.modify("h", {"id": 1})
        self.assertEqual(self.server.rest("GET", base + "/namespaces/h/items")[1]["total_items"], 1)

    def test_at_once(self):
        """Writers and readers of both kinds; nothing is lost."""
        self.db.open("t", PK, vector_index("v", "hnsw", 4))
        base, errors = f"/api/v1/db/{self.name}", []

        def guarded(work, *values):
            try:
                work(*values)
            except Exception as error:  # shown by the assertion below
                errors.append(repr(error))

        def by_rpc(first):
            with Db(self.server, self.name) as db:
                for i in range(first, first + 100):
                    db.modify("t", {"id": i, "v": Vector([i, 0, 0, 1]), f"name{i % 10}": i})
                    got = db.select(Query("t").where("id", "eq", i))
                    assert got.ids() == [i], got

        def by_http(first):
            for i in range(first, first + 100):
                status, got = self.server.rest("POST", base + "/namespaces/t/items", {"id": i, "v": [i, 0, 0, 1], f"name{i % 7}": i})
                assert status == 200, got

        threads = [threading.Thread(target=guarded, args=(work, first)) for work, first in ((by_rpc, 0), (by_rpc, 100), (by_rpc, 200), (by_http, 300), (by_http, 400))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])
        got = self.db.select(Query("t").sort("id"))
        self.assertEqual(got.ids(), list(range(500)))
        for doc in got.docs():
            i = doc["id"]
            self.assertEqual(doc, {"id": i, f"name{i % (10 if i < 300 else 7)}": i})

    def test_status_is_the_same(self):
        """One table of statuses: the same mistake over both."""
        db, base = self.db, f"/api/v1/db/{self.name}"
        db.open("t", PK, vector_index("v", "hnsw", 2))
        http_of = {1: 400, 2: 400, 3: 400, 4: 500, 11: 400, 13: 404, 35: 400}
        for text in ("SELEC * FROM t", "SELECT * FROM t WHERE KNN(v, [1], k=1)", "SELECT * FROM t WHERE KNN(v, [1,2], k=0)", "SELECT * FROM none", "SELECT * FROM t WHERE nofield = 1",
                     "SELECT * FROM t WHERE KNN(id, [1,2], k=1)"):
            with self.subTest(text), self.assertRaises(Refused) as caught:
                db.sql(text, "t")
            status, got = self.server.rest("POST", base + "/sqlquery", text)
            self.assertEqual((http_of[caught.exception.code], caught.exception.text), (status, got["description"]))


if __name__ == "__main__":
    unittest.main()
