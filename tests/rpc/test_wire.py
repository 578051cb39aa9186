"""The client itself: known bytes of the protocol's description, both ways."""
import unittest
import uuid

from query import Query, State, read_result
from wire import (Broken, F32, I64, Names, Reader, Vector, arguments, document, frame, parse_document, request, snappy_pack, snappy_unpack,
                  variant, varint, varuint)


def unhex(text):
    return bytes.fromhex(text)


DOCS = State(0x1A2B3C4D, 5, Names(["id", "vec", "name"]))


class KnownBytes(unittest.TestCase):
    def test_login(self):
        got = request("login", "", "", "db", True, False, -1, "v5.15.0", "Go-connector", I64(15))
        self.assertEqual(got, unhex("3211DDEE 04010100 2B000000 00000000 09 0200 0200 02026462 0301 0300 0801 020776352E31352E30"
                                    "020C476F2D636F6E6E6563746F72 001E 010000"))

    def test_ping(self):
        self.assertEqual(frame("ping", arguments() + arguments(I64(0)), 512), unhex("3211DDEE 04010000 04000000 00020000 00 010000"))

    def test_item(self):
        doc = {"id": 7, "name": "hi", "vec": Vector([1, 0.5])}
        self.assertEqual(document(doc, Names(), bundled=True), unhex("071A000000 06 080E 12026869 1D02000009 0000803F0000003F 07"
                                                                     "03 026964 046E616D65 03766563"))
        self.assertEqual(parse_document(document(doc, Names(["id", "vec"])), Names(["id", "vec", "name"])), doc)

    def test_knn_query(self):
        query = Query("docs").knn("vec", [1, 0], kind="hnsw", k=2, ef=10).select("*", "vectors()").rank().limit(2)
        self.assertEqual(query.pack(), unhex("04646F6373 200376656302 040000803F00000000 020101020A 09012A 0909766563746F72732829 17 0402 0B"))
        query = Query("").knn("vec", "cat", k=5, radius=0.5)
        self.assertEqual(query.entries, unhex("21 03766563 02 01 03636174 00 01 03 05 0000003F"))
        self.assertTrue(Query("").knn("v", [], kind="ivf", k=5, nprobe=4).entries.endswith(unhex("0301010504")))

    def test_fragments(self):
        self.assertEqual(variant((I64(5), "ab")), unhex("0B02000A02026162"))
        self.assertEqual(varuint(-1), unhex("FFFFFFFFFFFFFFFFFF01"))
        self.assertEqual(State().mark(), -1)
        self.assertEqual(request("close_results", 3, I64(17), seq=5), unhex("3211DDEE04013300 08000000 05000000 0208060022 010000"))
        self.assertEqual(document({"u": uuid.UUID(int=0)}, Names())[1:6], unhex("8880808002"))
        self.assertEqual(document({"f": F32(0)}, Names())[1:6], unhex("8980808002"))

    def test_select_reply(self):
        state = State()
        got = read_result(unhex("B240000000 01 0004646F6373 CDF8ACD101 04 0202696403766563 0003 02062D7475706C65 00080000 00026964 0808000102"
                                "6964 0D0203766563 1008000103766563 00"), [state])
        self.assertEqual((got.flags, state.token, state.version, state.names), (0x2032, 0x1A2B3C4D, 4, ["id", "vec"]))
        self.assertEqual([f[:3] for f in got.types[0][4]], [("-tuple", 2, None), ("id", 0, None), ("vec", 13, 2)])

    def test_knn_reply(self):
        got = read_result(unhex("F24800020200060000 00E907 0000803E 15000000 06080E1A0268691502000009 0000803F0000003F07"
                                "01EA07 00000040 15000000 0608101A02796F1502000009 000000000000803F07"), [DOCS])
        self.assertEqual(got.ranks(), [0.25, 2.0])
        self.assertEqual(got.docs(), [{"id": 7, "name": "hi", "vec": [1.0, 0.5]}, {"id": 8, "name": "yo", "vec": [0.0, 1.0]}])

    def test_refused(self):
        """What would break a client is an error here."""
        for name, blob in (("bytes after the end", "000000000000"), ("unknown extra", "00000000 0700"), ("cut", "0000 0001"), ("type of JSON", "13000000 0000"),
                           ("no such name", "02000101 00 04000000 06400007"), ("field index", "02000101 00 06000000 0688800202 07")):
            with self.subTest(name), self.assertRaises(Broken):
                read_result(unhex(blob), [DOCS])
        with self.assertRaises(Broken):
            Reader(b"\x0e\0\0\0\0").argument()

    def test_snappy(self):
        for data in (b"", b"a", b"abc" * 50, b"\0" * 5000, bytes(range(256)) * 3):
            self.assertEqual(snappy_unpack(snappy_pack(data)), data)
        self.assertEqual(snappy_unpack(unhex("08 046162 0902")), b"abababab"[:8])

    def test_numbers(self):
        for n in (0, 1, -1, 63, -64, 64, 2**31, -2**31, 2**63 - 1, -2**63):
            self.assertEqual(Reader(varint(n)).varint(), n)


if __name__ == "__main__":
    unittest.main()
