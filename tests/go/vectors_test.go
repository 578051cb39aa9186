// Every Go snippet of the product pages on vectors. Page 1 was written for an earlier connector: where v5.15 has no such
// name (NewBaseKnnSearchParam, UpsertEmbedder, Embedding), the one it became is used and named beside.
package annex_test

import (
	"encoding/json"
	"math/rand"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/restream/reindexer/v5"
	"github.com/restream/reindexer/v5/bindings"
)

// For a vector field, the data type must be array or slice of `float32`.
type Item struct {
	Id int `reindex:"id,,pk"`
	// In case of a slice, `dimension` should be explicitly specified in the field tag.
	VecBF []float32 `reindex:"vec_bf,vec_bf,start_size=1000,metric=l2,dimension=1000"`
	// In case of an array, `dimension` is taken to be equal to the size of the array.
	VecHnsw [2048]float32 `reindex:"vec_hnsw,hnsw,m=16,ef_construction=200,start_size=1000,metric=inner_product,multithreading=1"`
	VecIvf  [1024]float32 `reindex:"vec_ivf,ivf,centroids_count=80,metric=cosine"`
}

// ItemRadius is the second page's: an index with a radius of its own.
type ItemRadius struct {
	Id     int           `reindex:"id,,pk"`
	VecIvf [1024]float32 `reindex:"vec_ivf,ivf,centroids_count=80,metric=cosine,radius=0.5"`
}

// ItemQuantized is the tag of 8-bit quantization.
type ItemQuantized struct {
	Id      int           `reindex:"id,,pk"`
	VecHnsw [1024]float32 `reindex:"hnsw_idx,hnsw,m=16,ef_construction=200,metric=inner_product,multithreading=1,start_size=1000,quantization=sq8"`
}

// newBase is NewBaseKnnSearchParam of earlier connectors.
func newBase(k int) (reindexer.BaseKnnSearchParam, error) {
	return reindexer.BaseKnnSearchParam{}.SetK(k), nil
}

const nItems = 300

func fillItems(t *testing.T, db *reindexer.Reindexer) []*Item {
	t.Helper()
	rng := rand.New(rand.NewSource(1))
	open[Item](t, db, "test_ns")
	items := make([]*Item, nItems)
	tx, err := db.BeginTx("test_ns")
	must(t, err)
	for i := range items {
		items[i] = &Item{Id: i, VecBF: randomVector(rng, 1000)}
		copy(items[i].VecHnsw[:], randomVector(rng, 2048))
		copy(items[i].VecIvf[:], randomVector(rng, 1024))
		must(t, tx.Upsert(items[i]))
	}
	n, err := tx.CommitWithCount()
	must(t, err)
	equal(t, n, nItems)
	return items
}

func ids(items []*Item) []int {
	out := make([]int, len(items))
	for i, item := range items {
		out[i] = item.Id
	}
	return out
}

// byDistance are the ids of all items, nearest of VecBF first.
func byDistance(items []*Item, target []float32) []int {
	out := ids(items)
	sort.Slice(out, func(a, b int) bool {
		return squared(items[out[a]].VecBF, target) < squared(items[out[b]].VecBF, target)
	})
	return out
}

func TestStructTags(t *testing.T) {
	db := connect(t)
	items := fillItems(t, db)
	got := all[Item](t, db.Query("test_ns").Where("id", reindexer.EQ, 7).SelectAllFields())
	equal(t, got, []*Item{items[7]})
	description, err := db.DescribeNamespace("test_ns")
	must(t, err)
	configs := map[string]map[string]any{}
	for _, index := range description.Indexes {
		configs[index.Name], _ = index.Config.(map[string]any)
	}
	for name, want := range map[string]map[string]any{"vec_bf": {"metric": "l2", "dimension": 1000.0, "start_size": 1000.0},
		"vec_hnsw": {"metric": "inner_product", "dimension": 2048.0, "m": 16.0, "ef_construction": 200.0, "multithreading": 1.0},
		"vec_ivf":  {"metric": "cosine", "dimension": 1024.0, "centroids_count": 80.0}} {
		for key, value := range want {
			have, err := json.Marshal(configs[name][key])
			must(t, err)
			wanted, _ := json.Marshal(value)
			equal(t, name+" "+key+" "+string(have), name+" "+key+" "+string(wanted))
		}
	}
}

func TestRadiusTag(t *testing.T) {
	db := connect(t)
	open[ItemRadius](t, db, "test_ns")
	rng := rand.New(rand.NewSource(2))
	first := ItemRadius{Id: 1}
	copy(first.VecIvf[:], randomVector(rng, 1024))
	must(t, db.Upsert("test_ns", &first))
	second := ItemRadius{Id: 2}
	copy(second.VecIvf[:], randomVector(rng, 1024)) // nearly at a right angle to the first
	must(t, db.Upsert("test_ns", &second))
	params, err := reindexer.NewIndexIvfSearchParam(80, reindexer.BaseKnnSearchParam{}.SetK(10))
	must(t, err)
	got, ranks := ranked[ItemRadius](t, db.Query("test_ns").WithRank().WhereKnn("vec_ivf", first.VecIvf[:], params))
	equal(t, len(got), 1)
	near(t, float64(ranks[0]), 1)
	params, err = reindexer.NewIndexIvfSearchParam(80, reindexer.BaseKnnSearchParam{}.SetRadius(-1))
	must(t, err)
	equal(t, len(all[ItemRadius](t, db.Query("test_ns").WhereKnn("vec_ivf", first.VecIvf[:], params))), 2)
}

func TestAddIndex(t *testing.T) {
	type Plain struct {
		Id  int       `reindex:"id,,pk"`
		Vec []float32 `json:"vec"`
	}
	for _, radius := range []float32{0, 1e20} {
		DB := connect(t)
		must(t, DB.OpenNamespace("ns_name", reindexer.DefaultNamespaceOptions(), Plain{}))
		rng := rand.New(rand.NewSource(3))
		for i := range 40 {
			item := Plain{Id: i, Vec: randomVector(rng, 1024)}
			if i%10 == 9 {
				item.Vec = nil
			}
			must(t, DB.Upsert("ns_name", &item))
		}
		ivfOpts := reindexer.FloatVectorIndexOpts{
			Metric:         "l2",
			Dimension:      1024,
			CentroidsCount: 32,
			Radius:         radius,
		}
		indexDef := reindexer.IndexDef{
			Name:      "vec",
			JSONPaths: []string{"vec"},
			IndexType: "ivf",
			FieldType: "float_vector",
			Config:    ivfOpts,
		}
		must(t, DB.AddIndex("ns_name", indexDef))
		must(t, DB.AddIndex("ns_name", indexDef))
		params, err := reindexer.NewIndexIvfSearchParam(32, reindexer.BaseKnnSearchParam{}.SetK(100))
		must(t, err)
		equal(t, len(all[Plain](t, DB.Query("ns_name").WhereKnn("vec", randomVector(rng, 1024), params))), 36)
		equal(t, len(all[Plain](t, DB.Query("ns_name").Where("vec", reindexer.EMPTY, nil))), 4)
		equal(t, len(all[Plain](t, DB.Query("ns_name").Where("vec", reindexer.ANY, nil))), 36)
		indexDef.Config = reindexer.FloatVectorIndexOpts{Metric: "l2", Dimension: 1000, CentroidsCount: 32}
		refused(t, DB.AddIndex("ns_name", indexDef), reindexer.ErrCodeConflict)
		must(t, DB.DropNamespace("ns_name"))
	}
}

func TestFieldsOfResults(t *testing.T) {
	db := connect(t)
	items := fillItems(t, db)
	one := func() *reindexer.Query { return db.Query("test_ns").Where("id", reindexer.EQ, 3) }
	for _, query := range []*reindexer.Query{one(), one().Select("*")} {
		equal(t, all[Item](t, query), []*Item{{Id: 3}})
	}
	equal(t, all[Item](t, one().Select("*", "VecBF")), []*Item{{Id: 3, VecBF: items[3].VecBF}})
	for _, query := range []*reindexer.Query{one().Select("*", "vectors()"), one().SelectAllFields()} {
		equal(t, all[Item](t, query), []*Item{items[3]})
	}
	for query, keys := range map[*reindexer.Query][]string{one(): {"Id"}, one().Select("*", "VecBF"): {"Id", "VecBF"}, one().SelectAllFields(): {"Id", "VecBF", "VecHnsw", "VecIvf"}} {
		text, err := query.ExecToJson().FetchAll()
		must(t, err)
		var document map[string][]map[string]any
		must(t, json.Unmarshal(text, &document))
		have := []string{}
		for key := range document["test_ns"][0] {
			have = append(have, key)
		}
		sort.Strings(have)
		equal(t, have, keys)
	}
}

func TestWhereKnn(t *testing.T) {
	db := connect(t)
	items := fillItems(t, db)
	rng := rand.New(rand.NewSource(4))
	target := randomVector(rng, 1000)
	knnBaseSearchParams, err := newBase(4291)
	must(t, err)
	// brute force
	got, ranks := ranked[Item](t, db.Query("test_ns").WithRank().WhereKnn("vec_bf", target, knnBaseSearchParams))
	equal(t, ids(got), byDistance(items, target))
	for i, item := range got {
		near(t, float64(ranks[i]), squared(items[item.Id].VecBF, target))
	}
	bfSearchParams, err := reindexer.NewIndexBFSearchParam(knnBaseSearchParams)
	must(t, err)
	equal(t, ids(all[Item](t, db.Query("test_ns").WhereKnn("vec_bf", target, bfSearchParams))), ids(got))
	// hnsw
	hnswSearchParams, err := reindexer.NewIndexHnswSearchParam(100000, knnBaseSearchParams)
	must(t, err)
	own := all[Item](t, db.Query("test_ns").WhereKnn("vec_hnsw", items[11].VecHnsw[:], hnswSearchParams))
	equal(t, len(own), nItems)
	equal(t, own[0].Id, 11)
	// ivf
	ivfSearchParams, err := reindexer.NewIndexIvfSearchParam(10, knnBaseSearchParams)
	must(t, err)
	own = all[Item](t, db.Query("test_ns").WhereKnn("vec_ivf", items[12].VecIvf[:], ivfSearchParams))
	equal(t, own[0].Id, 12)
	// The connector itself refuses what cannot be.
	if _, err = reindexer.NewIndexHnswSearchParam(10, knnBaseSearchParams); err == nil {
		t.Fatal("ef below k")
	}
	if _, err = reindexer.NewIndexIvfSearchParam(0, knnBaseSearchParams); err == nil {
		t.Fatal("nprobe of 0")
	}
	// And the server the rest.
	for _, wrong := range []*reindexer.Query{
		db.Query("test_ns").WhereKnn("vec_bf", target, hnswSearchParams),
		db.Query("test_ns").WhereKnn("vec_ivf", target[:1000], ivfSearchParams),
		db.Query("test_ns").WhereKnn("vec_bf", target, reindexer.BaseKnnSearchParam{}),
		db.Query("test_ns").WhereKnn("vec_bf", target, knnBaseSearchParams).WhereKnn("vec_hnsw", items[1].VecHnsw[:], hnswSearchParams),
		db.Query("test_ns").WhereKnn("id", target, knnBaseSearchParams),
	} {
		if _, err := wrong.Exec().FetchAll(); err == nil {
			t.Fatal("no error")
		}
	}
}

func TestRank(t *testing.T) {
	db := connect(t)
	items := fillItems(t, db)
	knnBaseSearchParams := reindexer.BaseKnnSearchParam{}.SetK(200)
	target := items[42].VecBF
	it := db.Query("test_ns").WithRank().WhereKnn("vec_bf", target, knnBaseSearchParams).Exec()
	defer it.Close()
	must(t, it.Error())
	equal(t, it.Count(), 200)
	equal(t, it.HasRank(), true)
	last := float32(-1)
	for it.Next() {
		if it.Rank() < last {
			t.Fatalf("rank %v after %v", it.Rank(), last)
		}
		last = it.Rank()
	}
	must(t, it.Error())
	text, err := db.Query("test_ns").WithRank().WhereKnn("vec_bf", target, reindexer.BaseKnnSearchParam{}.SetK(1)).ExecToJson().FetchAll()
	must(t, err)
	var document map[string][]map[string]float64
	must(t, json.Unmarshal(text, &document))
	equal(t, document["test_ns"], []map[string]float64{{"Id": 42, "rank()": 0}})
	// Inner product and cosine: the largest first.
	params, err := reindexer.NewIndexIvfSearchParam(80, knnBaseSearchParams)
	must(t, err)
	_, ranks := ranked[Item](t, db.Query("test_ns").WithRank().WhereKnn("vec_ivf", items[9].VecIvf[:], params))
	near(t, float64(ranks[0]), 1)
	if !slices.IsSortedFunc(ranks, func(a, b float32) int { return int((b - a) * 1e6) }) {
		t.Fatal("cosine is not from high to low")
	}
}

func TestQueryExamples(t *testing.T) {
	db := connect(t)
	items := fillItems(t, db)
	target := items[20]

	knnBaseSearchParams, err := newBase(100)
	must(t, err)
	hnswSearchParams, err := reindexer.NewIndexHnswSearchParam(150, knnBaseSearchParams)
	must(t, err)
	got := all[Item](t, db.Query("test_ns").WhereKnn("vec_hnsw", target.VecHnsw[:], hnswSearchParams))
	equal(t, []int{len(got), got[0].Id}, []int{100, 20})

	got, ranks := ranked[Item](t, db.Query("test_ns").
		WithRank().
		WhereKnn("vec_bf", target.VecBF, knnBaseSearchParams))
	equal(t, ids(got), byDistance(items, target.VecBF)[:100])
	equal(t, ranks[0], float32(0))

	knnBaseSearchParams, err = newBase(200)
	must(t, err)
	ivfSearchParams, err := reindexer.NewIndexIvfSearchParam(32, knnBaseSearchParams)
	must(t, err)
	got = all[Item](t, db.Query("test_ns").
		SelectAllFields().
		WhereKnn("vec_ivf", target.VecIvf[:], ivfSearchParams))
	equal(t, got[0], target)

	knnBaseSearchParams, err = newBase(300)
	must(t, err)
	ivfSearchParams, err = reindexer.NewIndexIvfSearchParam(32, knnBaseSearchParams)
	must(t, err)
	got = all[Item](t, db.Query("test_ns").
		Select("*", "VecBF").
		Where("id", reindexer.GT, 5).
		WhereKnn("vec_ivf", target.VecIvf[:], ivfSearchParams))
	equal(t, got[0], &Item{Id: 20, VecBF: target.VecBF})
	for _, item := range got {
		if item.Id <= 5 {
			t.Fatalf("id %d", item.Id)
		}
	}
}

func TestBracketsAndRankExpression(t *testing.T) {
	db := connect(t)
	items := fillItems(t, db)
	knnBaseSearchParams, err := newBase(10000)
	must(t, err)
	ivfSearchParams, err := reindexer.NewIndexIvfSearchParam(32, knnBaseSearchParams)
	must(t, err)
	items2, ranks := ranked[Item](t, db.Query("test_ns").
		WithRank().
		Where("id", reindexer.LT, 1000).
		OpenBracket().
		Where("id", reindexer.GT, 5).
		WhereKnn("vec_ivf", items[0].VecIvf[:], ivfSearchParams).
		CloseBracket().
		Sort("rank() * 10 - id", true))
	if len(items2) < 50 {
		t.Fatalf("%d items", len(items2))
	}
	for i := range items2 {
		if items2[i].Id <= 5 {
			t.Fatalf("id %d", items2[i].Id)
		}
		value := func(i int) float64 { return float64(ranks[i])*10 - float64(items2[i].Id) }
		if i > 0 && value(i) > value(i-1)+1e-3 {
			t.Fatalf("%v after %v", value(i), value(i-1))
		}
	}
}

func TestStreaming(t *testing.T) {
	db := connect(t)
	items := fillItems(t, db)
	params := reindexer.IndexHnswSearchParam{Ef: 300}
	got := all[Item](t, db.Query("test_ns").Where("id", reindexer.LT, 100).WhereKnn("vec_hnsw", items[50].VecHnsw[:], params).Limit(30))
	equal(t, []int{len(got), got[0].Id}, []int{30, 50})
	for _, item := range got {
		if item.Id >= 100 {
			t.Fatalf("id %d", item.Id)
		}
	}
	_, err := db.Query("test_ns").WhereKnn("vec_hnsw", items[50].VecHnsw[:], params).Sort("id", false).Exec().FetchAll()
	refused(t, err, reindexer.ErrCodeQueryExec)
}

func TestActions(t *testing.T) {
	db := connect(t)
	items := fillItems(t, db)
	for _, text := range []string{
		`{"type":"action","action":{"command":"rebuild_ivf_index", "namespace":"*", "index":"*", "data_part": 0.5}}`,
		`{"type":"action","action":{"command":"drop_ann_storage_cache", "namespace":"*", "index":"*"}}`,
		`{"type":"embedders","caches":[{"cache_tag":"*","max_cache_items":1000000,"hit_to_cache":1},{"cache_tag":"the jungle book","max_cache_items":2025,"hit_to_cache":3}]}`,
	} {
		must(t, db.Upsert(reindexer.ConfigNamespaceName, []byte(text)))
	}
	params, err := reindexer.NewIndexIvfSearchParam(80, reindexer.BaseKnnSearchParam{}.SetK(3))
	must(t, err)
	equal(t, all[Item](t, db.Query("test_ns").WhereKnn("vec_ivf", items[33].VecIvf[:], params))[0].Id, 33)
	item, err := db.Query(reindexer.ConfigNamespaceName).WhereString("type", reindexer.EQ, "embedders").Exec().FetchOne()
	must(t, err)
	embedders := item.(*reindexer.DBConfigItem).Embedders
	equal(t, (*embedders)[1], reindexer.DBEmbeddersConfig{CacheTag: "the jungle book", MaxCacheItems: 2025, HitToCache: 3})
}

func TestConfigItems(t *testing.T) {
	db := connect(t)
	item, err := db.Query(reindexer.ConfigNamespaceName).WhereString("type", reindexer.EQ, "namespaces").Exec().FetchOne()
	must(t, err)
	namespaces := item.(*reindexer.DBConfigItem).Namespaces
	equal(t, (*namespaces)[0].TxVecInsertionThreads, 4)
	changed := append(*namespaces, *reindexer.DefaultDBNamespaceConfig("test_ns"))
	changed[len(changed)-1].TxVecInsertionThreads = 2
	must(t, db.Upsert(reindexer.ConfigNamespaceName, &reindexer.DBConfigItem{Type: "namespaces", Namespaces: &changed}))
	item, err = db.Query(reindexer.ConfigNamespaceName).WhereString("type", reindexer.EQ, "namespaces").Exec().FetchOne()
	must(t, err)
	namespaces = item.(*reindexer.DBConfigItem).Namespaces
	equal(t, (*namespaces)[len(*namespaces)-1].TxVecInsertionThreads, 2)
}

func quantized(t *testing.T, db *reindexer.Reindexer, name string) bool {
	t.Helper()
	item, err := db.Query(reindexer.MemstatsNamespaceName).WhereString("name", reindexer.EQ, "test_ns").Exec().FetchOne()
	must(t, err)
	for _, index := range item.(*reindexer.NamespaceMemStat).Indexes {
		if index.Name == name {
			return index.IsQuantized != nil && *index.IsQuantized
		}
	}
	t.Fatalf("no index %s", name)
	return false
}

func TestQuantizationTag(t *testing.T) {
	db := connect(t)
	open[ItemQuantized](t, db, "test_ns")
	description, err := db.DescribeNamespace("test_ns")
	must(t, err)
	for _, index := range description.Indexes {
		if index.Name == "hnsw_idx" {
			config, _ := index.Config.(map[string]any)["quantization_config"].(map[string]any)
			equal(t, config["quantization_type"], "scalar_quantization_8_bit")
		}
	}
	equal(t, quantized(t, db, "hnsw_idx"), false)
}

func TestQuantizationUpdate(t *testing.T) {
	DB := connect(t)
	type Small struct {
		Id  int         `reindex:"id,,pk"`
		Vec [32]float32 `reindex:"vec,hnsw,m=16,ef_construction=200,metric=l2"`
	}
	open[Small](t, DB, "test_ns")
	rng := rand.New(rand.NewSource(5))
	items := make([]Small, 400)
	tx, err := DB.BeginTx("test_ns")
	must(t, err)
	for i := range items {
		items[i].Id = i
		copy(items[i].Vec[:], randomVector(rng, 32))
		must(t, tx.Upsert(&items[i]))
	}
	must(t, tx.Commit())
	update := func(config *bindings.QuantizationConfig) error {
		return DB.UpdateIndex("test_ns", reindexer.IndexDef{
			Name:      "vec",
			JSONPaths: []string{"Vec"},
			IndexType: "hnsw",
			FieldType: "float_vector",
			Config: reindexer.FloatVectorIndexOpts{
				Metric: "l2", Dimension: 32, M: 16, EfConstruction: 200,
				QuantizationConfig: config,
			},
		})
	}
	nearest := func() {
		t.Helper()
		params, err := reindexer.NewIndexHnswSearchParam(100, reindexer.BaseKnnSearchParam{}.SetK(1))
		must(t, err)
		for _, i := range []int{5, 250} {
			equal(t, all[Small](t, DB.Query("test_ns").WhereKnn("vec", items[i].Vec[:], params))[0].Id, i)
		}
	}
	must(t, update(&bindings.QuantizationConfig{Type: "scalar_quantization_8_bit", Quantile: 0.987, SampleSize: 200000, Threshold: 1000000}))
	nearest()
	must(t, update(&bindings.QuantizationConfig{Type: "scalar_quantization_8_bit", Quantile: 0.99, SampleSize: 20000, Threshold: 100}))
	for end := time.Now().Add(deadline); !quantized(t, DB, "vec"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not quantized although there are more vectors than the threshold")
		}
	}
	nearest()
	if err := update(&bindings.QuantizationConfig{Type: "scalar_quantization_8_bit", Quantile: 0.97}); err == nil {
		t.Fatal("the configuration of a quantized index cannot be changed")
	}
	must(t, update(nil))
	equal(t, quantized(t, DB, "vec"), false)
	nearest()
	got := all[Small](t, DB.Query("test_ns").WhereInt("id", reindexer.EQ, 9).SelectAllFields())
	equal(t, got[0].Vec, items[9].Vec)
	for _, wrong := range []*bindings.QuantizationConfig{{Type: "none"}, {Type: "scalar_quantization_8_bit", Quantile: 0.5}} {
		if err := update(wrong); err == nil {
			t.Fatalf("accepted %v", wrong)
		}
	}
}
