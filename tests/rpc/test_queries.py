"""Binary queries with every entry, KNN with every kind of parameters, results with paging, SQL; and their errors."""
import math
import random
import unittest

from client import PK, Closed, Db, Refused, Server, index, vector_index
from query import AS_JSON, FLAG_ID, FLAG_JOINED, FLAG_NSID, FLAG_RANK, FLAG_SHOW_RANK, FLAG_TYPES, INNER, LEFT, OBJECTS, OR_INNER, Query, versions
from wire import F32, I64, Vector, request, varuint, variant, vstr

ITEMS = [{"id": i, "n": i % 10, "name": f"item {i}", "price": i / 4, "tags": [i % 3, i % 5], "cat": i % 4, "flag": i % 2 == 0, "free": {"deep": i}, "v": Vector([i, 1])} for i in range(100)]


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)
        cls.db = Db(cls.server)
        cls.addClassCleanup(cls.db.sock.close)
        cls.fill(cls.db)

    @classmethod
    def fill(cls, db):
        db.open("items", PK, index("n", "int", "tree"), index("name", "string", "hash"), index("price", "double", "tree"), index("tags", "int", "hash", is_array=True), index("cat", "int"),
                index("flag", "bool", "-"), index("n+cat", "composite", "hash", path=["n", "cat"]), vector_index("v", "vec_bf", 2))
        db.open("cats", PK, index("title", "string", "tree"))
        tx = db.begin("items")
        for item in ITEMS:
            db.tx_item("items", tx, item)
        db.commit("items", tx)
        db.upsert_all("cats", [{"id": i, "title": f"cat {i}"} for i in range(4)])

    def refused(self, code, call, *values, **other):
        with self.assertRaises(Refused) as caught:
            call(*values, **other)
        self.assertEqual(caught.exception.code, code, caught.exception.text)

    def select(self, query, **other):
        return self.db.select(query, **other)


def where(test):
    return [item["id"] for item in ITEMS if test(item)]


class Where(Case):
    def test_conditions(self):
        q = lambda: Query("items")
        table = [
            ("eq", q().where("n", "eq", 3), lambda i: i["n"] == 3),
            ("eq of several", q().where("n", "eq", 3, 4), lambda i: i["n"] in (3, 4)),
            ("set", q().where("id", "set", I64(1), I64(5), I64(999)), lambda i: i["id"] in (1, 5)),
            ("empty set", q().where("id", "set"), lambda i: False),
            ("lt", q().where("n", "lt", 2), lambda i: i["n"] < 2),
            ("le", q().where("price", "le", 1.5), lambda i: i["price"] <= 1.5),
            ("gt", q().where("id", "gt", 95), lambda i: i["id"] > 95),
            ("ge with a double", q().where("id", "ge", 97.0), lambda i: i["id"] >= 97),
            ("range", q().where("price", "range", 1.0, 2.0), lambda i: 1 <= i["price"] <= 2),
            ("allset", q().where("tags", "allset", 1, 4), lambda i: {1, 4} <= set(i["tags"])),
            ("array", q().where("tags", "eq", 4), lambda i: 4 in i["tags"]),
            ("like", q().where("name", "like", "%m 1_"), lambda i: i["name"].startswith("item 1") and len(i["name"]) == 7),
            ("text of a number", q().where("n", "eq", "7"), lambda i: i["n"] == 7),
            ("bool", q().where("flag", "eq", True), lambda i: i["flag"]),
            ("without an index", q().where("free.deep", "lt", 3), lambda i: i["free"]["deep"] < 3),
            ("empty", q().where("free.deep", "empty"), lambda i: False),
            ("any", q().where("free.deep", "any"), lambda i: True),
            ("composite", q().where("n+cat", "eq", (3, 1)), lambda i: (i["n"], i["cat"]) == (3, 1)),
            ("composite set", q().where("n+cat", "set", (3, 1), (4, 0)), lambda i: (i["n"], i["cat"]) in ((3, 1), (4, 0))),
            ("index in another case", q().where("NAME", "eq", "item 7"), lambda i: i["id"] == 7),
            ("not", q().where("n", "gt", 0, op="not"), lambda i: i["n"] == 0),
            ("or binds first", q().where("n", "eq", 1).where("n", "eq", 2, op="or").where("cat", "eq", 1), lambda i: i["n"] in (1, 2) and i["cat"] == 1),
            ("brackets", q().where("cat", "eq", 1).open("or").where("n", "eq", 2).where("cat", "eq", 2).shut(), lambda i: i["cat"] == 1 or (i["n"] == 2 and i["cat"] == 2)),
            ("not brackets", q().open("not").where("n", "gt", 1).shut(), lambda i: i["n"] <= 1),
            ("between fields", q().between("id", "eq", "n"), lambda i: i["id"] == i["n"]),
            ("field less than field", q().between("price", "lt", "cat"), lambda i: i["price"] < i["cat"]),
            ("subquery as values", q().field_sub("cat", "set", Query("cats").select("id").where("title", "set", "cat 1", "cat 3")), lambda i: i["cat"] in (1, 3)),
            ("subquery as a value", q().field_sub("id", "eq", Query("items").aggregate("max", "id")), lambda i: i["id"] == 99),
            ("subquery is not empty", q().sub(Query("cats").where("id", "eq", 1), "any").where("id", "lt", 2), lambda i: i["id"] < 2),
            ("subquery compared", q().sub(Query("cats").aggregate("max", "id"), "eq", 3).where("id", "lt", 2), lambda i: i["id"] < 2),
            ("array length of a subquery's value", q().add(36, 2, 1, vstr("tags"), 0, 0, 2, 1, 3, vstr(Query("items").select("n").where("id", "eq", 2).pack(end=False))).where("id", "lt", 3),
             lambda i: i["id"] < 3),
            ("subquery before now", q().add(36, 3, vstr(Query("items").select("n").pack(end=False)), 2, 3, 2, 0, 1, variant("sec"), 1).where("id", "lt", 2), lambda i: i["id"] < 2),
            ("array length", q().add(36, 2, 1, vstr("tags"), 0, 0, 2, 1, 1, 1, variant(I64(2))).where("id", "lt", 5), lambda i: i["id"] < 5),
        ]
        for name, query, test in table:
            with self.subTest(name):
                self.assertEqual(sorted(self.select(query).ids()), where(test))

    def test_equal_position(self):
        db = self.db
        db.open("pos", PK, index("a", "int", is_array=True), index("b", "int", is_array=True))
        db.upsert_all("pos", [{"id": 1, "a": [1, 2], "b": [5, 6]}, {"id": 2, "a": [2, 1], "b": [5, 6]}])
        both = lambda: Query("pos").where("a", "eq", 1).where("b", "eq", 5)
        self.assertEqual(sorted(db.select(both()).ids()), [1, 2])
        self.assertEqual(db.select(both().add(13, 0, 2, vstr("a"), vstr("b"))).ids(), [1])

    def test_wrong(self):
        q = lambda: Query("items")
        table = [
            ("two values", q().where("n", "lt", 1, 2), 3), ("no value", q().where("n", "gt"), 3), ("range of one", q().where("n", "range", 1), 3), ("like a number", q().where("name", "like", 5), 3),
            ("knn as a condition", q().where("v", "knn", 1), 4), ("unknown namespace", Query("none"), 13), ("unknown field", q().where("nofield", "eq", 1), 35),
            ("no such entry", q().add(99), 8), ("retired entry", q().add(34), 8), ("another", q().add(35), 8), ("vector compared", q().where("v", "eq", 1.0), 3),
            ("bracket left open", q().open().where("n", "eq", 1), None), ("bracket only shut", q().shut(), None), ("unknown condition", q().add(0, vstr("n"), 2, 77, 0), None),
            ("unknown operation", q().add(0, vstr("n"), 9, 1, 1, variant(1)), None), ("unknown aggregation", q().add(8, 55, 1, vstr("n")), None), ("too many values", q().add(0, vstr("n"), 2, 7, 1 << 40), None),
            ("name cut", q().add(0, b"\x7fabc"), None), ("strict mode", q().add(24, 9), None), ("join inside of a joined query", q().join(INNER, Query("items").add(20, INNER, 0), ("id", "eq", "id")), 8),
            ("indexes only", q().strict("indexes").where("free.deep", "eq", 1), 35),
        ]
        for name, query, code in table:
            with self.subTest(name), self.assertRaises(Refused) as caught:
                self.select(query)
            if code:
                self.assertEqual(caught.exception.code, code, f"{name}: {caught.exception.text}")
        self.assertEqual(self.select(q().strict("none").where("nofield", "eq", 1)).count, 0)
        self.assertEqual(self.select(q().strict("names").where("free.deep", "eq", 1)).count, 1)

    def test_deep(self):
        """Brackets and subqueries in each other, to the bottom: an error or an answer."""
        query = Query("items")
        for _ in range(50_000):
            query.open()
        try:
            self.select(query)
        except Refused:
            pass
        inner = Query("items").where("id", "eq", 1)
        for _ in range(500):
            inner = Query("items").field_sub("id", "eq", inner)
        try:
            self.select(inner)
        except Refused:
            pass
        self.assertEqual(self.select(Query("items")).count, 100)

    def test_cut_queries(self):
        """Every beginning of a query, and every byte changed: no crash."""
        data = (Query("items").where("n", "eq", 3, 4).open("or").where("name", "like", "a%").shut().knn("v", [1, 2], kind="base", k=3).sort("id", True, 5, 3).aggregate("facet", "n")
                .select("*").total().limit(5).join(INNER, Query("cats"), ("cat", "eq", "id")).pack())
        rng = random.Random(2)
        damaged = [data[:cut] for cut in range(len(data))] + [data[:at] + bytes([rng.randrange(256)]) + data[at + 1:] for at in range(len(data)) for _ in range(4)]
        for body in damaged:
            try:
                with_marks = versions([self.db.state("items")])
                self.db.call("select", body, OBJECTS, 10, with_marks)
            except Refused as error:
                self.assertTrue(error.text)
            except Closed:
                self.fail(f"closed by {body.hex()}")


class Shape(Case):
    """Order, pages, totals, filters, aggregations."""

    def test_sort(self):
        q = lambda: Query("items").where("id", "lt", 6)
        table = [("desc", q().sort("id", True), [5, 4, 3, 2, 1, 0]), ("two", q().sort("cat").sort("id", True), [4, 0, 5, 1, 2, 3]), ("expression", q().sort("id * -1"), [5, 4, 3, 2, 1, 0]),
                 ("forced", q().sort("id", False, 3, 1), [3, 1, 0, 2, 4, 5]), ("path", q().sort("free.deep", True), [5, 4, 3, 2, 1, 0]),
                 ("limits", q().sort("id").limit(2).offset(3), [3, 4]), ("last limit wins", q().sort("id").limit(5).limit(1), [0])]
        for name, query, want in table:
            with self.subTest(name):
                self.assertEqual(self.select(query).ids(), want)

    def test_totals(self):
        for mode, limit in ((2, 3), (1, 3), (2, 0)):
            got = self.select(Query("items").where("n", "lt", 5).total(mode).limit(limit))
            self.assertEqual((got.total, got.query_count, got.count), (50, limit, limit))
        self.assertEqual(self.select(Query("items").limit(3)).total, 0)

    def test_filters(self):
        q = lambda: Query("items").where("id", "eq", 5)
        whole = dict(ITEMS[5])
        plain = {k: v for k, v in whole.items() if k != "v"}
        table = [("nothing", q(), plain, True), ("*", q().select("*"), plain, True), ("all", q().select("*", "vectors()"), whole, True), ("* and one", q().select("*", "v"), whole, True),
                 ("vector alone", q().select("v"), whole, True), ("vectors alone", q().select("VECTORS()"), whole, True), ("one", q().select("name"), {"name": "item 5"}, False),
                 ("two", q().select("id", "v"), {"id": 5, "v": [5, 1]}, False), ("deep", q().select("free.deep"), {"free": {"deep": 5}}, False), ("unknown", q().select("none", "n"), {"n": 5}, False)]
        for name, query, want, has_id in table:
            with self.subTest(name):
                got = self.select(query)
                self.assertEqual(got.docs(), [want])
                if name in ("one", "two", "deep"):
                    self.assertFalse(got.flags & FLAG_ID, "parts of documents must not be cached")
                elif has_id and name == "all":
                    self.assertTrue(got.flags & FLAG_ID)
                as_json = self.select(query, flags=AS_JSON)
                self.assertEqual(as_json.docs(), [want])
                self.assertFalse(as_json.flags & FLAG_TYPES)

    def test_empty_select(self):
        """Limit 0 still tells the dictionary."""
        self.db.states.pop("items")
        got = self.select(Query("items").limit(0))
        self.assertEqual((got.count, got.handle, got.uid), (0, -1, -1))
        name, token, version, names, fields = got.types[0]
        self.assertEqual((name, names[0]), ("items", "id"))
        self.assertEqual(fields[0][:2] if fields else ("-tuple", 2), ("-tuple", 2))
        self.assertIn(("v", 13, 2), [f[:3] for f in fields] or [("v", 13, 2)])
        self.assertEqual(self.select(Query("items").limit(0)).types, {}, "told once")

    def test_aggregations(self):
        q = (Query("items").aggregate("sum", "n").aggregate("avg", "price").aggregate("min", "id").aggregate("max", "id").aggregate("distinct", "cat")
             .aggregate("facet", "cat").add(17, vstr("count"), 1).add(15, 2).add(16, 1).aggregate("count").limit(0))
        got = {a["type"]: a for a in self.select(q.total()).aggregations[:7]}
        self.assertEqual(set(got), {"sum", "avg", "min", "max", "distinct", "facet", "count"})
        counted = self.select(Query("items").aggregate("count")).aggregations[0]
        self.assertEqual((counted["value"], counted["fields"]), (100, ["*"]))
        whole = {a["type"]: a for a in self.select(Query("items").aggregate("sum", "n").aggregate("avg", "price").aggregate("min", "id").aggregate("max", "id")).aggregations}
        whole["distinct"] = self.select(Query("items").aggregate("distinct", "cat")).aggregations[0]
        self.assertEqual([whole[t]["value"] for t in ("sum", "avg", "min", "max")], [450, 12.375, 0, 99])
        self.assertEqual(sorted(whole["distinct"]["distincts"]), ["0", "1", "2", "3"])
        facet = self.select(Query("items").where("id", "lt", 7).aggregate("facet", "cat", "n").add(17, vstr("n"), 1).add(15, 2)).aggregations[0]
        self.assertEqual((facet["fields"], facet["facets"]), (["cat", "n"], [{"count": 1, "values": ["2", "6"]}, {"count": 1, "values": ["1", "5"]}]))
        several = self.select(Query("items").where("id", "lt", 3).aggregate("distinct", "cat", "n")).aggregations[0]
        self.assertEqual(sorted(several["distincts"]), [["0", "0"], ["1", "1"], ["2", "2"]])
        total = self.select(Query("items").aggregate("max", "id").total().limit(1))
        self.assertEqual((total.total, total.aggregations[-1]), (100, {"value": 100, "type": "count", "fields": ["*"]}))

    def test_explain(self):
        got = self.select(Query("items").where("n", "eq", 3).explain())
        self.assertGreaterEqual(got.explain["total_us"], 0)
        self.assertIn("n", [s["field"] for s in got.explain["selectors"]])

    def test_pages(self):
        db = self.db
        got = db.select(Query("items").sort("id"), limit=30)
        if got.handle == -1:
            self.skipTest("the server always sends everything")
        self.assertEqual((got.count, got.query_count), (30, 100))
        self.assertGreaterEqual(got.uid, 0)
        with Db(self.server) as other:
            other.modify("items", {"id": 1000})
            other.delete_query(Query("items").where("id", "eq", 1000))
        ids = got.ids()
        page = db.fetch(got, ["items"], 30, 30)
        self.assertEqual((page.count, page.query_count, page.types, page.aggregations), (30, 100, {}, []))
        self.assertEqual((page.handle, page.uid), (got.handle, got.uid))
        ids += page.ids()
        last = db.fetch(page, ["items"], 60, 40)
        ids += last.ids()
        self.assertEqual((ids, last.handle), (list(range(100)), -1))
        self.assertRaises(Refused, db.fetch, got, ["items"], 0, 10)

    def test_handles(self):
        db = self.db
        got = db.select(Query("items"), limit=10)
        if got.handle == -1:
            self.skipTest("the server always sends everything")
        wrong = type(got)(**{**got.__dict__, "uid": I64(got.uid + 1)})
        self.refused(36, db.fetch, wrong, ["items"], 10, 10)
        self.assertEqual(db.call("close_results", got.handle, got.uid), [])
        self.assertEqual(db.call("close_results", got.handle, got.uid), [], "quietly")
        got = db.select(Query("items"), limit=10)
        db.send(request("close_results", got.handle, got.uid, True, seq=9))  # no reply may come
        self.assertEqual(db.call("ping"), [])
        open_ones = [db.select(Query("items"), limit=1) for _ in range(256)]
        self.refused(4, db.select, Query("items"), limit=1)
        for one in open_ones:
            db.call("close_results", one.handle, one.uid)
        self.assertEqual(db.select(Query("items"), limit=1).count, 1)

    def test_snapshot(self):
        """Pages of a result do not move while others write."""
        db = self.db
        db.open("moving", PK)
        db.upsert_all("moving", [{"id": i} for i in range(60)])
        got = db.select(Query("moving").sort("id"), limit=20)
        db.delete_query(Query("moving").where("id", "lt", 30))
        ids = got.ids()
        if got.handle != -1:
            ids += db.fetch(got, ["moving"], 20, 40).ids()
        self.assertEqual(ids, list(range(60)))

    def test_timeout(self):
        """The caller's time is up: code 19."""
        db = self.db
        db.open("slow", PK, vector_index("v", "vec_bf", 512))
        tx = db.begin("slow")
        for i in range(4000):
            db.tx_item("slow", tx, {"id": i, "v": Vector([i % 7] * 512), "text": "x" * 200})
        db.commit("slow", tx)
        query = Query("slow").sort("id * 2 + id / 3")
        for i in range(40):
            query.where("text", "like", f"%x%{i}y%", op="or" if i else "and")
        self.refused(19, db.select, query, timeout_ms=1)
        self.assertEqual(db.select(Query("slow").where("id", "eq", 5), timeout_ms=20_000).ids(), [5])


class JoinsAndMerges(Case):
    def test_left(self):
        got = self.select(Query("items").where("id", "lt", 3).sort("id").join(LEFT, Query("cats").where("id", "gt", 0), ("cat", "eq", "id")))
        self.assertEqual(got.flags & (FLAG_JOINED | FLAG_NSID), FLAG_JOINED | FLAG_NSID)
        self.assertEqual([[[j.doc for j in block] for block in row.joined] for row in got.rows], [[], [[{"id": 1, "title": "cat 1"}]], [[{"id": 2, "title": "cat 2"}]]])
        self.assertTrue(all(j.nsid == 1 for row in got.rows for block in row.joined for j in block))

    def test_inner(self):
        got = self.select(Query("items").where("id", "lt", 8).sort("id").join(INNER, Query("cats").where("title", "eq", "cat 1"), ("cat", "eq", "id")))
        self.assertEqual(got.ids(), [1, 5])
        either = self.select(Query("items").sort("id").where("id", "eq", 0).join(OR_INNER, Query("cats").where("title", "eq", "cat 1"), ("cat", "eq", "id")).limit(3))
        self.assertEqual(either.ids(), [0, 1, 5])

    def test_json(self):
        got = self.select(Query("items").where("id", "eq", 1).join(LEFT, Query("cats"), ("cat", "eq", "id")), flags=AS_JSON)
        self.assertEqual(got.docs()[0]["joined_cats"], [{"id": 1, "title": "cat 1"}])

    def test_merge(self):
        got = self.select(Query("items").where("id", "eq", 5).merge(Query("cats").where("id", "eq", 2)))
        self.assertTrue(got.flags & FLAG_NSID)
        self.assertEqual([(r.nsid, r.doc["id"]) for r in got.rows], [(0, 5), (1, 2)])
        two = Query("items").where("id", "eq", 5).join(LEFT, Query("cats"), ("cat", "eq", "id")).merge(Query("cats").where("id", "eq", 2).join(LEFT, Query("items").where("id", "eq", 2), ("id", "eq", "id")))
        self.assertEqual(two.namespaces(), ["items", "cats", "cats", "items"])
        got = self.select(two)
        self.assertEqual([(r.nsid, [[(j.nsid, j.doc["id"]) for j in b] for b in r.joined]) for r in got.rows], [(0, [[(2, 1)]]), (1, [[(3, 2)]])])

    def test_wrong(self):
        for name, query in (("unknown namespace", Query("items").join(LEFT, Query("none"), ("cat", "eq", "id"))),
                            ("block that is not there", Query("items").add(20, 1, 7)), ("join inside a join", Query("items").add(20, 9, 0))):
            with self.subTest(name), self.assertRaises(Refused):
                self.select(query)


class Modifying(Case):
    def setUp(self):
        self.db.open("w", PK, index("n", "int", "tree"), index("a", "int", is_array=True), vector_index("v", "hnsw", 2))
        self.db.call("truncate", "w")
        self.db.upsert_all("w", [{"id": i, "n": i, "a": [i], "v": Vector([i, 0]), "o": {"x": i}} for i in range(10)])

    def test_delete(self):
        got = self.db.delete_query(Query("w").where("n", "gt", 6))
        self.assertEqual((got.count, got.handle, got.uid), (3, -1, -1))
        self.assertEqual(self.db.delete_query(Query("w").where("n", "gt", 6)).count, 0)
        self.assertEqual(self.db.delete_query(Query("w").knn("v", [0, 0], k=2)).count, 2)
        self.assertEqual(sorted(self.select(Query("w")).ids()), [2, 3, 4, 5, 6])
        self.assertEqual(self.db.delete_query(Query("w").sort("id").limit(1)).count, 1)

    def test_update(self):
        one = lambda: Query("w").where("id", "eq", 5)
        table = [("scalar", one().set("n", 50), {"n": 50}), ("double", one().set("new", 1.5), {"new": 1.5}), ("several", one().set("a", 1, 2, 3), {"a": [1, 2, 3]}),
                 ("one in a list", one().set("a", 7, cmd=25), {"a": [7]}), ("empty list", one().set("a", cmd=25), {"a": []}), ("expression", one().set("n", "n * 2 + 1", expression=True), {"n": 101}),
                 ("deep", one().set("o.x", "text"), {"o": {"x": "text"}}), ("object", one().set_object("o", {"y": [1, None]}), {"o": {"y": [1, None]}}),
                 ("objects", one().set_object("list", {"a": 1}, {"b": 2}, is_array=True), {"list": [{"a": 1}, {"b": 2}]}), ("drop", one().drop("new"), {}), ("vector", one().set("v", 3.0, 4.0), {"v": [3, 4]}),
                 ("two at once", one().set("n", 1).set("s", "x"), {"n": 1, "s": "x"})]
        for name, query, change in table:
            with self.subTest(name):
                got = self.db.update_query(query)
                self.assertEqual((got.count, got.query_count, got.handle), (1, 1, -1))
                doc = self.select(one().select("*", "vectors()")).docs()[0]
                for key, value in change.items():
                    self.assertEqual(doc[key], value)
                self.assertEqual({k: v for k, v in got.docs()[0].items() if k != "v"}, {k: v for k, v in doc.items() if k != "v"})
        self.assertNotIn("new", doc)
        self.assertEqual(self.db.update_query(Query("w").set("n", 1)).count, 10)
        self.assertEqual(self.db.update_query(Query("w").where("id", "eq", 999).set("n", 1)).count, 0)
        for name, query in (("wrong length", one().set("v", 1.0, 2.0, 3.0)), ("key", one().set("id", 6)), ("type", one().set("n", "text"))):
            with self.subTest(name), self.assertRaises(Refused):
                self.db.update_query(query)

    def test_join_condition(self):
        """As a filter; no joined rows in the reply."""
        query = Query("w").set("n", 77).join(INNER, Query("cats").where("title", "eq", "cat 2"), ("id", "eq", "id"))
        try:
            got = self.db.update_query(query)
        except Refused as error:
            self.fail(str(error))
        self.assertEqual((got.ids(), [r.joined for r in got.rows]), ([2], [[]]))


class Knn(Case):
    DIM = 8

    @classmethod
    def fill(cls, db):
        rng = random.Random(5)
        cls.rows = [[rng.gauss(0, 1) for _ in range(cls.DIM)] for _ in range(400)]
        cls.target = [rng.gauss(0, 1) for _ in range(cls.DIM)]
        names = [(f"{kind}_{metric}", kind, metric) for kind in ("hnsw", "vec_bf", "ivf") for metric in ("l2", "inner_product", "cosine")]
        cls.names = names
        db.open("k", PK, index("n", "int", "tree"), *[vector_index(n, kind, cls.DIM, metric, **({"centroids_count": 4} if kind == "ivf" else {})) for n, kind, metric in names],
                vector_index("reach", "hnsw", cls.DIM, radius=4.0))
        tx = db.begin("k")
        for i, row in enumerate(cls.rows):
            doc = {"id": i, "n": i % 10, "reach": Vector(row)}
            doc.update({n: Vector(row) for n, _, _ in names})
            db.tx_item("k", tx, doc)
        db.commit("k", tx)

    def truth(self, metric, keep=lambda i: True):
        """(rank, id), best first."""
        dot = lambda a, b: sum(x * y for x, y in zip(a, b))
        rank = {"l2": lambda r: sum((x - y) ** 2 for x, y in zip(r, self.target)), "inner_product": lambda r: dot(r, self.target),
                "cosine": lambda r: dot(r, self.target) / math.sqrt(dot(r, r) * dot(self.target, self.target))}[metric]
        return sorted(((rank(r), i) for i, r in enumerate(self.rows) if keep(i)), reverse=metric != "l2")

    def knn(self, name, op="and", **params):
        return Query("k").knn(name, self.target, op, **params)

    def test_kinds(self):
        kinds = {"hnsw": ({"kind": "hnsw", "ef": 400}, {}), "vec_bf": ({"kind": "bf"}, {}), "ivf": ({"kind": "ivf", "nprobe": 4}, {})}
        for name, kind, metric in self.names:
            for params in kinds[kind]:
                with self.subTest(name, params=params):
                    got = self.select(self.knn(name, k=10, **params).rank())
                    truth = self.truth(metric)
                    self.assertEqual(got.flags & (FLAG_RANK | FLAG_SHOW_RANK), FLAG_RANK | FLAG_SHOW_RANK)
                    self.assertEqual(got.extras[6], 0)
                    ranks = got.ranks()
                    self.assertEqual(ranks, sorted(ranks, reverse=metric != "l2"))
                    if params:  # with all there is searched: the truth
                        self.assertEqual(got.ids(), [i for _, i in truth[:10]])
                        for have, (want, _) in zip(ranks, truth):
                            self.assertAlmostEqual(have, want, 4)
                    else:
                        self.assertEqual(got.count, 10)

    def test_radius(self):
        for name, kind, metric in self.names:
            truth = self.truth(metric)
            radius = (truth[20][0] + truth[21][0]) / 2
            extra = {"hnsw": {"kind": "hnsw", "ef": 400}, "vec_bf": {"kind": "bf"}, "ivf": {"kind": "ivf", "nprobe": 4}}[kind]
            with self.subTest(name):
                self.assertEqual(self.select(self.knn(name, radius=radius, **extra)).ids(), [i for _, i in truth[:21]])
                self.assertEqual(self.select(self.knn(name, k=5, radius=radius, **extra)).ids(), [i for _, i in truth[:5]])
        near = [i for rank, i in self.truth("l2") if rank < 4]
        self.assertEqual(self.select(self.knn("reach", kind="hnsw", k=400, ef=400)).ids(), near, "the index's own radius")
        self.assertGreater(self.select(self.knn("reach", kind="hnsw", k=400, ef=400, radius=9.0)).count, len(near))

    def test_streaming(self):
        """Neither k nor radius: as many as the limit wants after the other conditions."""
        truth = self.truth("l2", lambda i: i % 10 == 3)
        got = self.select(self.knn("hnsw_l2", kind="hnsw", ef=200).where("n", "eq", 3).limit(15).offset(2))
        self.assertEqual(got.ids(), [i for _, i in truth[2:17]])
        self.assertEqual(self.select(self.knn("hnsw_l2").limit(7)).count, 7)
        self.refused(2, self.select, self.knn("hnsw_l2").sort("id").limit(5))

    def test_with_conditions(self):
        truth = [i for _, i in self.truth("l2")[:50]]
        knn = lambda: self.knn("vec_bf_l2", kind="bf", k=50)
        self.assertEqual(self.select(knn().where("n", "lt", 3)).ids(), [i for i in truth if i % 10 < 3])
        query = Query("k").where("id", "lt", 300).open().where("id", "gt", 5).knn("vec_bf_l2", self.target, k=50).shut().sort("rank() * 10 - id", True)
        want = [(rank * 10 - i, i) for rank, i in self.truth("l2")[:50] if 5 < i < 300]
        self.assertEqual(self.select(query).ids(), [i for _, i in sorted(want, reverse=True)])
        self.assertEqual(self.select(knn().sort("id")).ids(), sorted(truth))
        self.assertEqual(self.select(knn().limit(3).offset(1)).ids(), truth[1:4])
        self.assertEqual(self.select(knn().total().limit(1)).total, 50)

    def test_rank_in_json(self):
        shown = self.select(self.knn("vec_bf_l2", k=3).rank(), flags=AS_JSON)
        self.assertAlmostEqual(shown.docs()[0]["rank()"], self.truth("l2")[0][0], 4)
        self.assertNotIn("rank()", self.select(self.knn("vec_bf_l2", k=3), flags=AS_JSON).docs()[0])
        hidden = self.select(self.knn("vec_bf_l2", k=3))
        self.assertTrue(hidden.flags & FLAG_RANK and not hidden.flags & FLAG_SHOW_RANK)
        by_name = self.select(self.knn("vec_bf_l2", k=3).select("*", "rank()"), flags=AS_JSON)
        self.assertIn("rank()", by_name.docs()[0])

    def test_old_capabilities(self):
        """A client without float ranks gets whole numbers and no extra 6."""
        with Db(self.server, capabilities=1) as old:
            got = old.select(self.knn("vec_bf_l2", k=3).rank())
            self.assertNotIn(6, got.extras)
            self.assertEqual(got.ranks(), [int(rank) for rank, _ in self.truth("l2")[:3]])

    def test_errors(self):
        q = Query("k")
        none = [0.0] * self.DIM
        table = [
            ("k of 0", self.knn("hnsw_l2", k=0), 2), ("ef below k", self.knn("hnsw_l2", kind="hnsw", k=10, ef=5), 2), ("ef of 0", self.knn("hnsw_l2", kind="hnsw", ef=0), 2),
            ("brute force without k", self.knn("vec_bf_l2"), 2), ("ivf without k", self.knn("ivf_l2"), 2), ("nprobe of 0", self.knn("ivf_l2", kind="ivf", k=1, nprobe=0), 2),
            ("hnsw's of brute force", self.knn("vec_bf_l2", kind="hnsw", k=1, ef=1), 2), ("ivf's of hnsw", self.knn("hnsw_l2", kind="ivf", k=1, nprobe=1), 2),
            ("brute force's of ivf", self.knn("ivf_l2", kind="bf", k=1), 2), ("no vector index", Query("k").knn("n", none, k=1), 3), ("no such field", Query("k").knn("none", none, k=1), 3),
            ("wrong dimension", Query("k").knn("hnsw_l2", [1.0], k=1), 11), ("no dimension", Query("k").knn("hnsw_l2", [], k=1), 11),
            ("two searches", self.knn("hnsw_l2", k=1).knn("vec_bf_l2", none, k=1), 11), ("search and other vectors", self.knn("hnsw_l2", k=1).where("vec_bf_l2", "any"), 11),
            ("text without an embedder", Query("k").knn("hnsw_l2", "some text", k=1), 11), ("version 0", Query("k").knn("hnsw_l2", none, k=1, version=0), 42),
            ("version 2", Query("k").knn("hnsw_l2", none, k=1, version=2), 42), ("unknown kind", Query("k").knn("hnsw_l2", none, kind=9, k=1), None),
            ("vector longer than the bytes", Query("k").add(32, vstr("hnsw_l2"), 2, 1 << 30), None),
            ("not a number", Query("k").knn("hnsw_l2", [float("nan")] * self.DIM, k=1), None),
        ]
        for name, query, code in table:
            with self.subTest(name), self.assertRaises(Refused) as caught:
                self.select(query)
            if code:
                self.assertEqual(caught.exception.code, code, f"{name}: {caught.exception.text}")

    def test_other_form(self):
        """Entry 33 with a vector is entry 32."""
        params = b"\x00\x01\x01\x05"
        data = Query("k").add(33, vstr("vec_bf_l2"), 2, 0, varuint(self.DIM << 1), b"".join(variant(F32(x))[1:] for x in self.target), params)
        self.assertEqual(self.select(data).ids(), [i for _, i in self.truth("l2")[:5]])


class Sql(Case):
    def test_statements(self):
        sql = lambda text: self.db.sql(text, "items")
        self.assertEqual(sql("SELECT * FROM items WHERE n = 3 ORDER BY id LIMIT 3").ids(), [3, 13, 23])
        got = sql("SELECT *, vectors(), rank() FROM items WHERE KNN(v, [7.2, 1], k=2)")
        self.assertEqual(([r.doc["v"] for r in got.rows], got.flags & FLAG_RANK), ([[7, 1], [8, 1]], FLAG_RANK))
        self.assertEqual(sql("SELECT COUNT(*) FROM items").aggregations[0]["value"], 100)
        self.assertEqual(self.db.sql("SELECT * FROM items WHERE id = 3", "items", flags=AS_JSON).ids(), [3])
        self.db.open("sqlw", PK)
        self.db.upsert_all("sqlw", [{"id": i, "x": i} for i in range(5)])
        self.assertEqual(self.db.sql("UPDATE sqlw SET x = 9 WHERE id < 2", "sqlw").count, 2)
        self.assertEqual(self.db.sql("DELETE FROM sqlw WHERE x = 9", "sqlw").count, 2)
        self.db.sql("TRUNCATE sqlw", "sqlw")
        self.assertEqual(self.db.select(Query("sqlw")).count, 0)
        self.assertIsNotNone(sql("EXPLAIN SELECT * FROM items WHERE n = 3").explain)

    def test_join_is_a_filter(self):
        """The client knows one namespace only: no rows of another."""
        got = self.db.sql("SELECT * FROM items INNER JOIN cats ON items.cat = cats.id WHERE id < 6 ORDER BY id", "items")
        self.assertTrue(all(row.nsid == 0 and not row.joined for row in got.rows))

    def test_errors(self):
        for text, code in (("", 1), ("SELEC * FROM items", 1), ("SELECT * FROM none", 13), ("SELECT * FROM items WHERE nofield = 1", 35), ("SELECT * FROM items WHERE KNN(v, [1], k=1)", 11)):
            with self.subTest(text):
                self.refused(code, self.db.sql, text, "items")


if __name__ == "__main__":
    unittest.main()
