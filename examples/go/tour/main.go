// What docs/go.md shows, as a program: every way to search, and writing much.
//
//	annex serve --db ./data &
//	go mod tidy && go run ./tour
package main

import (
	"fmt"
	"log"
	"math/rand"

	"github.com/restream/reindexer/v5"
	_ "github.com/restream/reindexer/v5/bindings/cproto"
)

type Item struct {
	Id      int         `reindex:"id,,pk"`
	Price   int         `reindex:"price,tree"`
	VecBF   []float32   `reindex:"vec_bf,vec_bf,start_size=1000,metric=l2,dimension=64"`
	VecHnsw [64]float32 `reindex:"vec_hnsw,hnsw,m=16,ef_construction=200,metric=inner_product,quantization=sq8"`
	VecIvf  [64]float32 `reindex:"vec_ivf,ivf,centroids_count=8,metric=cosine,radius=0.5"`
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func fill(vector []float32) []float32 {
	for i := range vector {
		vector[i] = rand.Float32()
	}
	return vector
}

func main() {
	db, err := reindexer.NewReindex("cproto://127.0.0.1:6534/shop", reindexer.WithCreateDBIfMissing())
	check(err)
	defer db.Close()

	err = db.OpenNamespace("items", reindexer.DefaultNamespaceOptions(), Item{})
	check(err)
	vector := fill(make([]float32, 64))
	err = db.Upsert("items", &Item{Id: 1, Price: 5, VecBF: vector})
	check(err)

	tx, err := db.BeginTx("items")
	check(err)
	for id := 2; id <= 500; id++ {
		item := &Item{Id: id, Price: id % 20, VecBF: fill(make([]float32, 64))}
		fill(item.VecHnsw[:])
		fill(item.VecIvf[:])
		err = tx.UpsertAsync(item, func(err error) { check(err) })
		check(err)
	}
	n, err := tx.CommitWithCount()
	check(err)
	fmt.Println(n, "written")

	base := reindexer.BaseKnnSearchParam{}.SetK(10)                // any vector index
	near := reindexer.BaseKnnSearchParam{}.SetK(10).SetRadius(0.5) // and only so near
	wide, err := reindexer.NewIndexHnswSearchParam(200, base)      // ef, not below k
	check(err)
	lists, err := reindexer.NewIndexIvfSearchParam(8, base) // nprobe, at least 1
	check(err)
	stream := reindexer.IndexHnswSearchParam{Ef: 200} // no k: nearest first until Limit is reached

	items, ranks, err := db.Query("items").
		WithRank().
		Where("price", reindexer.LT, 10).
		WhereKnn("vec_hnsw", vector, wide).
		Limit(10).
		Exec().FetchAllWithRank()
	check(err)
	if len(items) != len(ranks) || len(items) == 0 {
		log.Fatal("no answer")
	}
	ask := func(index string, param reindexer.KnnSearchParam) {
		found, err := db.Query("items").WhereKnn(index, vector, param).Limit(10).Exec().FetchAll()
		check(err)
		fmt.Println(index, len(found), "found")
	}
	ask("vec_bf", base)
	ask("vec_hnsw", near)
	ask("vec_ivf", lists)
	ask("vec_hnsw", stream)
}
