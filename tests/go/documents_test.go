package annex_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/restream/reindexer/v5"
	"github.com/restream/reindexer/v5/dsl"
	"github.com/restream/reindexer/v5/events"
)

type Place struct {
	City   string `json:"city"`
	Floors []int  `json:"floors"`
	Owner  *Place `json:"owner,omitempty"`
}

type Address struct {
	City   string `reindex:"city,hash" json:"city"`
	Floors []int  `json:"floors"`
	Owner  *Place `json:"owner,omitempty"`
}

type Person struct {
	ID       int64           `reindex:"id,,pk" json:"id"`
	Name     string          `reindex:"name,tree" json:"name"`
	Age      int32           `reindex:"age,tree" json:"age"`
	Score    float64         `reindex:"score,tree" json:"score"`
	Weight   float32         `json:"weight"`
	Tags     []string        `reindex:"tags,hash" json:"tags"`
	UUID     string          `reindex:"uuid,hash,uuid" json:"uuid"`
	Active   bool            `reindex:"active,-" json:"active"`
	Address  Address         `json:"address"`
	Others   []Place         `json:"others"`
	Free     map[string]any  `json:"free"`
	When     time.Time       `json:"when"`
	Bytes    []byte          `json:"bytes"`
	Pointer  *int            `json:"pointer"`
	Vec      []float32       `reindex:"vec,hnsw,metric=l2,dimension=3" json:"vec"`
	_        struct{}        `reindex:"name+age,,composite"`
	Friends  []*Person       `reindex:"friends,,joined" json:"-"`
	FriendID int64           `json:"friend_id"`
	Place    reindexer.Point `reindex:"place,rtree" json:"place"`
}

func person(i int) *Person {
	number := i * 7
	return &Person{ID: int64(i), Name: fmt.Sprintf("name %03d", i), Age: int32(20 + i%30), Score: float64(i) / 3, Weight: float32(i) / 4,
		Tags: []string{"all", fmt.Sprint(i % 4)}, UUID: fmt.Sprintf("d7b4e1c0-1111-4222-8333-%012d", i), Active: i%2 == 0,
		Address: Address{City: fmt.Sprint("city ", i%5), Floors: []int{i, -i}, Owner: &Place{City: "owner", Floors: []int{}}},
		Others:  []Place{{City: "first", Floors: []int{1}}, {City: "second", Floors: []int{}}}, Free: map[string]any{"key": "value", "n": int64(i)},
		When: time.Unix(1_700_000_000+int64(i), 123456789).UTC(), Bytes: []byte{0, 1, byte(i)}, Pointer: &number, Vec: []float32{float32(i), 1, 0},
		FriendID: int64((i + 1) % 100), Place: reindexer.Point{float64(i), float64(i % 10)}}
}

func people(t *testing.T, db *reindexer.Reindexer, n int) {
	t.Helper()
	open[Person](t, db, "people")
	for i := range n {
		must(t, db.Upsert("people", person(i)))
	}
}

func names(items []*Person) (out []int64) {
	out = []int64{}
	for _, item := range items {
		out = append(out, item.ID)
	}
	return
}

func TestRoundTrip(t *testing.T) {
	for _, options := range [][]any{nil, {reindexer.WithNetCompression()}, {reindexer.WithDedicatedServerThreads()}} {
		db := connect(t, options...)
		people(t, db, 20)
		for _, item := range all[Person](t, db.Query("people").SelectAllFields()) {
			want := person(int(item.ID))
			item.Free["n"] = int64(toInt(item.Free["n"]))
			equal(t, item, want)
		}
	}
}

func toInt(value any) int64 {
	switch n := value.(type) {
	case int64:
		return n
	case int:
		return int64(n)
	}
	return -1
}

func TestCRUD(t *testing.T) {
	db := connect(t)
	open[Person](t, db, "people")
	n, err := db.Insert("people", person(1))
	must(t, err)
	equal(t, n, 1)
	n, err = db.Insert("people", person(1))
	must(t, err)
	equal(t, n, 0)
	n, err = db.Update("people", person(2))
	must(t, err)
	equal(t, n, 0)
	changed := person(1)
	changed.Name = "changed"
	n, err = db.Update("people", changed)
	must(t, err)
	equal(t, n, 1)
	item, found := db.Query("people").WhereInt64("id", reindexer.EQ, 1).Get()
	equal(t, found, true)
	equal(t, item.(*Person).Name, "changed")
	must(t, db.Delete("people", person(1)))
	must(t, db.Delete("people", person(1)))
	_, found = db.Query("people").WhereInt64("id", reindexer.EQ, 1).Get()
	equal(t, found, false)
	must(t, db.Upsert("people", []byte(`{"id":5,"name":"json","vec":[1,2,3]}`)))
	text, found := db.Query("people").Select("id", "name", "vec").GetJson()
	equal(t, found, true)
	equal(t, string(text), `{"id":5,"name":"json","vec":[1.0,2.0,3.0]}`)
	must(t, db.TruncateNamespace("people"))
	equal(t, len(all[Person](t, db.Query("people"))), 0)
}

func TestPrecepts(t *testing.T) {
	db := connect(t)
	open[Person](t, db, "people")
	for want := range int64(3) {
		item := Person{Name: "x"}
		must(t, db.Upsert("people", &item, "id=serial()", "age=now(sec)"))
		equal(t, item.ID, want+1)
	}
}

func TestQueries(t *testing.T) {
	db := connect(t)
	people(t, db, 100)
	q := func() *reindexer.Query { return db.Query("people") }
	params := reindexer.BaseKnnSearchParam{}.SetK(3)
	for name, test := range map[string]struct {
		query *reindexer.Query
		want  []int64
	}{
		"eq":         {q().Where("id", reindexer.EQ, 5), []int64{5}},
		"set":        {q().Where("id", reindexer.SET, []int{3, 1, 2}).Sort("id", true), []int64{3, 2, 1}},
		"text":       {q().Where("name", reindexer.LIKE, "name 00_").Where("id", reindexer.LT, 2).Sort("id", false), []int64{0, 1}},
		"range":      {q().Where("score", reindexer.RANGE, []float64{1, 2}).Sort("id", false), []int64{3, 4, 5, 6}},
		"array":      {q().Where("tags", reindexer.ALLSET, []string{"all", "3"}).Limit(2).Sort("id", false), []int64{3, 7}},
		"uuid":       {q().WhereUuid("uuid", reindexer.EQ, "d7b4e1c0-1111-4222-8333-000000000042"), []int64{42}},
		"composite":  {q().WhereComposite("name+age", reindexer.EQ, []any{"name 009", 29}), []int64{9}},
		"bool":       {q().WhereBool("active", reindexer.EQ, true).Where("id", reindexer.LT, 3).Sort("id", false), []int64{0, 2}},
		"deep":       {q().Where("city", reindexer.EQ, "city 4").Where("id", reindexer.LT, 10).Sort("id", false), []int64{4, 9}},
		"path":       {q().Where("address.floors", reindexer.EQ, -33), []int64{33}},
		"or":         {q().Where("id", reindexer.EQ, 1).Or().Where("id", reindexer.EQ, 2).Sort("id", false), []int64{1, 2}},
		"not":        {q().Where("id", reindexer.LT, 4).Not().Where("id", reindexer.EQ, 2).Sort("id", false), []int64{0, 1, 3}},
		"brackets":   {q().Not().OpenBracket().Where("id", reindexer.GT, 1).CloseBracket().Sort("id", false), []int64{0, 1}},
		"fields":     {q().WhereBetweenFields("id", reindexer.GT, "age").Where("id", reindexer.LT, 52).Sort("id", false), []int64{}},
		"subquery":   {q().Where("id", reindexer.EQ, q().AggregateMax("id")), []int64{99}},
		"point":      {q().DWithin("place", reindexer.Point{50, 0}, 0.5), []int64{50}},
		"forced":     {q().Where("id", reindexer.LT, 3).Sort("id", false, 2, 0), []int64{2, 0, 1}},
		"expression": {q().Where("id", reindexer.LT, 3).Sort("id * -1", false), []int64{2, 1, 0}},
		"page":       {q().Sort("id", false).Limit(2).Offset(10), []int64{10, 11}},
		"nearest":    {q().WhereKnn("vec", []float32{40.2, 1, 0}, params), []int64{40, 41, 39}},
		"filtered":   {q().WhereKnn("vec", []float32{40.2, 1, 0}, params).Where("id", reindexer.GT, 40), []int64{41}},
		"sql":        {nil, []int64{7}},
	} {
		t.Run(name, func(t *testing.T) {
			if test.query == nil {
				items, err := db.ExecSQL("SELECT * FROM people WHERE id = 7").FetchAll()
				must(t, err)
				equal(t, items[0].(*Person).ID, int64(7))
				return
			}
			if name == "fields" { // ages are 20 to 49 and grow with the id up to 30
				for _, id := range names(all[Person](t, test.query)) {
					if int(id) <= 20+int(id)%30 {
						t.Fatalf("id %d", id)
					}
				}
				return
			}
			equal(t, names(all[Person](t, test.query)), test.want)
		})
	}
}

func TestResults(t *testing.T) {
	db := connect(t)
	people(t, db, 100)
	it := db.Query("people").Where("id", reindexer.LT, 50).ReqTotal().Limit(5).Exec()
	must(t, it.Error())
	equal(t, []int{it.Count(), it.TotalCount()}, []int{5, 50})
	it.Close()
	it = db.Query("people").AggregateSum("age").AggregateAvg("id").AggregateMin("id").AggregateMax("id").Distinct("active").Limit(0).Exec()
	must(t, it.Error())
	it.Close()
	query := db.Query("people")
	query.AggregateFacet("tags").Limit(2).Sort("count", true)
	it = query.Exec()
	must(t, it.Error())
	facets := it.AggResults()[0].Facets
	equal(t, []any{facets[0].Values, facets[0].Count, len(facets)}, []any{[]string{"all"}, 100, 2})
	it.Close()
	it = db.Query("people").Where("id", reindexer.EQ, 1).Explain().Exec()
	explain, err := it.GetExplainResults()
	must(t, err)
	if len(explain.Selectors) == 0 {
		t.Fatal("no selectors")
	}
	it.Close()
	for _, size := range []int{1, 7, 99, 100, 101} {
		items, err := db.Query("people").Sort("id", false).FetchCount(size).Exec().FetchAll()
		must(t, err)
		equal(t, len(items), 100)
		for i, item := range items {
			equal(t, item.(*Person).ID, int64(i))
		}
	}
	it = db.Query("people").FetchCount(10).Exec() // closed before its end
	it.Next()
	it.Close()
	text, err := db.Query("people").Where("id", reindexer.LT, 3).Select("id").ReqTotal("total").ExecToJson("list").FetchAll()
	must(t, err)
	equal(t, strings.Count(string(text), `{"id":`), 3)
	if !strings.Contains(string(text), `"total":3`) {
		t.Fatal(string(text))
	}
}

func TestJoinAndMerge(t *testing.T) {
	db := connect(t)
	people(t, db, 100)
	got := all[Person](t, db.Query("people").Where("id", reindexer.LT, 3).Sort("id", false).
		LeftJoin(db.Query("people").Not().Where("id", reindexer.EQ, 1), "friends").On("friend_id", reindexer.EQ, "id"))
	equal(t, []int{len(got), len(got[0].Friends), len(got[1].Friends)}, []int{3, 0, 1})
	equal(t, got[1].Friends[0].ID, int64(2))
	got = all[Person](t, db.Query("people").InnerJoin(db.Query("people").Where("name", reindexer.EQ, "name 050"), "friends").On("friend_id", reindexer.EQ, "id"))
	equal(t, names(got), []int64{49})
	items, err := db.Query("people").Where("id", reindexer.EQ, 1).Merge(db.Query("people").Where("id", reindexer.EQ, 9)).Exec().FetchAll()
	must(t, err)
	equal(t, []int64{items[0].(*Person).ID, items[1].(*Person).ID}, []int64{1, 9})
}

func TestUpdateAndDelete(t *testing.T) {
	db := connect(t)
	people(t, db, 20)
	one := func() *reindexer.Query { return db.Query("people").Where("id", reindexer.EQ, 5) }
	for _, query := range []*reindexer.Query{one().Set("name", "set"), one().Set("tags", []string{"a"}), one().SetExpression("age", "age * 2 + 1"), one().Set("vec", []float32{7, 8, 9}),
		one().SetObject("address", Address{City: "moved", Floors: []int{3}}), one().Drop("free")} {
		it := query.Update()
		must(t, it.Error())
		equal(t, it.Count(), 1)
		it.Close()
	}
	got := all[Person](t, one().SelectAllFields())[0]
	equal(t, []any{got.Name, got.Tags, got.Age, got.Vec, got.Address, len(got.Free)}, []any{"set", []string{"a"}, int32(51), []float32{7, 8, 9}, Address{City: "moved", Floors: []int{3}}, 0})
	n, err := db.Query("people").Where("id", reindexer.GE, 10).Delete()
	must(t, err)
	equal(t, n, 10)
	n, err = db.Query("people").WhereKnn("vec", []float32{0, 1, 0}, reindexer.BaseKnnSearchParam{}.SetK(2)).Delete()
	must(t, err)
	equal(t, n, 2)
	equal(t, names(all[Person](t, db.Query("people").Sort("id", false))), []int64{2, 3, 4, 5, 6, 7, 8, 9})
}

func TestDSL(t *testing.T) {
	db := connect(t)
	people(t, db, 20)
	query, err := db.QueryFrom(dsl.DSL{Namespace: "people", Filters: []dsl.Filter{{Field: "id", Cond: "lt", Value: 3}}, Sort: dsl.Sort{Field: "id", Desc: true}})
	must(t, err)
	equal(t, names(all[Person](t, query)), []int64{2, 1, 0})
}

// Values that Go leaves out or does not have: nil slices, maps, pointers; empty vectors.
func TestNil(t *testing.T) {
	db := connect(t)
	open[Person](t, db, "people")
	must(t, db.Upsert("people", &Person{ID: 1}))
	must(t, db.Upsert("people", &Person{ID: 2, Vec: []float32{}, Tags: []string{}, Free: map[string]any{}, Bytes: []byte{}}))
	must(t, db.Upsert("people", &Person{ID: 3, Vec: []float32{1, 2, 3}, Free: map[string]any{"null": nil, "list": []any{nil, int64(1), "x"}}}))
	got := all[Person](t, db.Query("people").SelectAllFields().Sort("id", false))
	equal(t, []any{len(got[0].Vec), len(got[1].Vec), got[2].Vec, got[0].Pointer == nil, got[0].UUID}, []any{0, 0, []float32{1, 2, 3}, true, "00000000-0000-0000-0000-000000000000"})
	equal(t, names(all[Person](t, db.Query("people").Where("vec", reindexer.EMPTY, nil).Sort("id", false))), []int64{1, 2})
	equal(t, names(all[Person](t, db.Query("people").WhereKnn("vec", []float32{0, 0, 0}, reindexer.BaseKnnSearchParam{}.SetK(9)))), []int64{3})
	for _, wrong := range [][]float32{{1}, {1, 2}, {1, 2, 3, 4}} {
		if err := db.Upsert("people", &Person{ID: 9, Vec: wrong}); err == nil {
			t.Fatalf("accepted %v", wrong)
		}
	}
}

func TestHuge(t *testing.T) {
	type Large struct {
		ID   int    `reindex:"id,,pk"`
		Text string `json:"text"`
		List []int64
	}
	for _, options := range [][]any{nil, {reindexer.WithNetCompression()}} {
		db := connect(t, options...)
		must(t, db.OpenNamespace("large", reindexer.DefaultNamespaceOptions(), Large{}))
		want := Large{ID: 1, Text: strings.Repeat("0123456789abcdef", 1<<20), List: make([]int64, 300_000)}
		for i := range want.List {
			want.List[i] = int64(i) << 20
		}
		must(t, db.Upsert("large", &want))
		equal(t, *all[Large](t, db.Query("large"))[0], want)
	}
}

func TestManyIndexes(t *testing.T) {
	type Plain struct {
		ID int `reindex:"id,,pk"`
	}
	db := connect(t)
	must(t, db.OpenNamespace("wide", reindexer.DefaultNamespaceOptions(), Plain{}))
	kinds := []string{"int", "string", "double", "bool"}
	document := []string{`"ID":1`}
	for i := range 254 {
		name := fmt.Sprint("f", i)
		must(t, db.AddIndex("wide", reindexer.IndexDef{Name: name, JSONPaths: []string{name}, FieldType: kinds[i%4]}))
		document = append(document, fmt.Sprintf(`%q:%s`, name, []string{"1", `"text"`, "1.5", "true"}[i%4]))
	}
	refused(t, db.AddIndex("wide", reindexer.IndexDef{Name: "more", JSONPaths: []string{"more"}, FieldType: "int"}), reindexer.ErrCodeConflict)
	must(t, db.Upsert("wide", []byte("{"+strings.Join(document, ",")+"}")))
	equal(t, len(all[Plain](t, db.Query("wide").Where("f253", reindexer.EQ, "text"))), 1)
	description, err := db.DescribeNamespace("wide")
	must(t, err)
	equal(t, len(description.Indexes), 255)
	for i := range 254 {
		must(t, db.DropIndex("wide", fmt.Sprint("f", i)))
	}
}

func TestManyNamespaces(t *testing.T) {
	db := connect(t)
	for i := range 40 {
		name := fmt.Sprint("ns_", i)
		open[Person](t, db, name)
		must(t, db.Upsert(name, person(i)))
	}
	for i := range 40 {
		equal(t, names(all[Person](t, db.Query(fmt.Sprint("ns_", i)))), []int64{int64(i)})
	}
	must(t, db.RenameNamespace("ns_1", "renamed"))
	equal(t, names(all[Person](t, db.Query("renamed"))), []int64{1})
	must(t, db.DropNamespace("renamed"))
	if err := db.DropNamespace("renamed"); err == nil {
		t.Fatal("dropped twice")
	}
	must(t, db.CloseNamespace("ns_2"))
	open[Person](t, db, "ns_2")
	equal(t, len(all[Person](t, db.Query("ns_2"))), 1)
}

// A struct that changed: the index conflicts, unless the application says that its data may go.
func TestIndexConflict(t *testing.T) {
	type First struct {
		ID  int       `reindex:"id,,pk"`
		Vec []float32 `reindex:"vec,hnsw,metric=l2,dimension=3"`
	}
	type Second struct {
		ID  int       `reindex:"id,,pk"`
		Vec []float32 `reindex:"vec,hnsw,metric=l2,dimension=4"`
	}
	db := connect(t)
	must(t, db.OpenNamespace("ns", reindexer.DefaultNamespaceOptions(), First{}))
	must(t, db.Upsert("ns", &First{ID: 1, Vec: []float32{1, 2, 3}}))
	other := connect(t)
	refused(t, other.OpenNamespace("ns", reindexer.DefaultNamespaceOptions(), Second{}), reindexer.ErrCodeConflict)
	other = connect(t)
	must(t, other.OpenNamespace("ns", reindexer.DefaultNamespaceOptions().DropOnIndexesConflict(), Second{}))
	must(t, other.Upsert("ns", &Second{ID: 1, Vec: []float32{1, 2, 3, 4}}))
}

func TestMeta(t *testing.T) {
	db := connect(t)
	open[Person](t, db, "people")
	must(t, db.PutMeta("people", "key", []byte("value")))
	value, err := db.GetMeta("people", "key")
	must(t, err)
	equal(t, string(value), "value")
	keys, err := db.EnumMeta("people")
	must(t, err)
	equal(t, keys, []string{"key"})
	must(t, db.DeleteMeta("people", "key"))
	value, err = db.GetMeta("people", "key")
	must(t, err)
	equal(t, len(value), 0)
}

func TestTransactions(t *testing.T) {
	db := connect(t)
	people(t, db, 3)
	tx, err := db.BeginTx("people")
	must(t, err)
	must(t, tx.Insert(person(3)))
	must(t, tx.Update(&Person{ID: 0, Name: "updated"}))
	must(t, tx.Upsert(person(4)))
	must(t, tx.Delete(person(1)))
	must(t, tx.UpsertJSON([]byte(`{"id":50,"name":"json"}`)))
	it := tx.Query().Where("id", reindexer.EQ, 2).Set("name", "by query").Update()
	must(t, it.Error())
	equal(t, len(all[Person](t, db.Query("people"))), 3)
	n, err := tx.CommitWithCount()
	must(t, err)
	equal(t, n, 6)
	equal(t, names(all[Person](t, db.Query("people").Sort("id", false))), []int64{0, 2, 3, 4, 50})

	tx, err = db.BeginTx("people")
	must(t, err)
	must(t, tx.Upsert(person(60)))
	must(t, tx.Rollback())
	equal(t, len(all[Person](t, db.Query("people").Where("id", reindexer.EQ, 60))), 0)

	tx, err = db.BeginTx("people")
	must(t, err)
	for i := range 10_000 {
		must(t, tx.UpsertAsync(person(i), func(err error) {
			if err != nil {
				t.Error(err)
			}
		}))
	}
	n, err = tx.CommitWithCount()
	must(t, err)
	equal(t, n, 10_000)
	equal(t, names(all[Person](t, db.Query("people").WhereKnn("vec", []float32{7777, 1, 0}, reindexer.BaseKnnSearchParam{}.SetK(1)))), []int64{7777})
	items, err := db.Query("people").Sort("id", false).Exec().FetchAll() // several pages
	must(t, err)
	equal(t, len(items), 10_000)
}

func TestErrors(t *testing.T) {
	db := connect(t)
	people(t, db, 1)
	_, err := db.Query("people").Where("nofield", reindexer.EQ, 1).Exec().FetchAll()
	refused(t, err, reindexer.ErrCodeStrictMode)
	_, err = db.Query("people").WhereKnn("vec", []float32{1}, reindexer.BaseKnnSearchParam{}.SetK(1)).Exec().FetchAll()
	refused(t, err, reindexer.ErrCodeNotValid)
	_, err = db.ExecSQL("SELEC * FROM people").FetchAll()
	refused(t, err, reindexer.ErrCodeParseSQL)
	other, err := reindexer.NewReindex("cproto://" + shared.rpc + "/none_such")
	if err == nil {
		other.Close()
		err = other.Status().Err
	}
	if err == nil {
		t.Fatal("a database that nobody made")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err = db.Query("people").ExecCtx(ctx).FetchAll(); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestEvents(t *testing.T) {
	db := connect(t)
	open[Person](t, db, "people")
	stream := db.Subscribe(events.DefaultEventsStreamOptions().WithNamespacesList("people").WithDocModifyEvents().WithLSN().WithTimestamp())
	defer stream.Close(context.Background())
	must(t, stream.Error())
	must(t, db.Upsert("people", person(1)))
	must(t, db.Delete("people", person(1)))
	for _, want := range []events.EventType{events.EventTypeItemUpsert, events.EventTypeItemDelete} {
		select {
		case event, ok := <-stream.Chan():
			if !ok {
				t.Fatal(stream.Error())
			}
			equal(t, event.Type(), want)
			equal(t, event.Namespace(), "people")
		case <-time.After(deadline):
			t.Fatal("no event")
		}
	}
}
