// A first program with Annex from Go: a namespace with a vector index, some documents, the nearest of them.
//
//	annex serve --db ./data &
//	go mod tidy && go run . cproto://127.0.0.1:6534/example
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/restream/reindexer/v5"
	_ "github.com/restream/reindexer/v5/bindings/cproto"
)

// Dish is a document. `reindex` names an index and its options, `json` the field of the document.
type Dish struct {
	ID    int    `reindex:"id,,pk" json:"id"`
	Name  string `reindex:"name,hash" json:"name"`
	Price int    `reindex:"price,tree" json:"price"`
	// How sweet, salty and hot it is. Real programs take vectors from a model; the array's length is the dimension.
	Taste [3]float32 `reindex:"taste,hnsw,metric=l2" json:"taste"`
}

var menu = []Dish{
	{1, "apple pie", 4, [3]float32{0.9, 0.1, 0.0}},
	{2, "chili", 9, [3]float32{0.2, 0.6, 0.9}},
	{3, "ice cream", 3, [3]float32{1.0, 0.0, 0.0}},
	{4, "curry", 12, [3]float32{0.4, 0.5, 0.7}},
	{5, "soup", 5, [3]float32{0.1, 0.7, 0.2}},
}

func run(dsn string) error {
	db, err := reindexer.NewReindex(dsn, reindexer.WithCreateDBIfMissing())
	if err != nil {
		return err
	}
	defer db.Close()
	// Makes the namespace and its indexes, or checks that they are the ones of the struct.
	if err := db.OpenNamespace("menu", reindexer.DefaultNamespaceOptions(), Dish{}); err != nil {
		return err
	}
	tx, err := db.BeginTx("menu")
	if err != nil {
		return err
	}
	for i := range menu {
		if err := tx.Upsert(&menu[i]); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	// The three hottest below 10, nearest first. k says how many candidates the index gives to the other conditions.
	it := db.Query("menu").
		WithRank().
		WhereKnn("taste", []float32{0.3, 0.5, 1.0}, reindexer.BaseKnnSearchParam{}.SetK(5)).
		Where("price", reindexer.LT, 10).
		Limit(3).
		Exec()
	defer it.Close()
	for it.Next() {
		dish := it.Object().(*Dish)
		fmt.Printf("%-10s %3d   %.2f\n", dish.Name, dish.Price, it.Rank())
	}
	return it.Error()
}

func main() {
	dsn := "cproto://127.0.0.1:6534/example"
	if len(os.Args) > 1 {
		dsn = os.Args[1]
	}
	if err := run(dsn); err != nil {
		log.Fatal(err)
	}
}
