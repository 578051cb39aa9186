package annex_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/restream/reindexer/v5"
	"github.com/restream/reindexer/v5/bindings"
)

const embedDim = 1024

// embedder is a service that answers for texts: a vector of letter counts. It keeps what it was asked.
type embedder struct {
	*httptest.Server
	mutex sync.Mutex
	asked []string
}

func vectorOf(text string) []float32 {
	out := make([]float32, embedDim)
	out[0] = 0.01
	for _, letter := range text {
		out[1+int(letter)%(embedDim-1)]++
	}
	return out
}

func newEmbedder(t *testing.T) *embedder {
	service := &embedder{}
	service.Server = httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		text, err := io.ReadAll(request.Body)
		var body struct{ Data []json.RawMessage }
		if err == nil {
			err = json.Unmarshal(text, &body)
		}
		if err != nil || request.Method != http.MethodPost || !strings.HasSuffix(request.URL.Path, "/produce") {
			http.Error(writer, "not a request for vectors", http.StatusBadRequest)
			return
		}
		service.mutex.Lock()
		service.asked = append(service.asked, request.URL.RequestURI()+" "+string(text))
		service.mutex.Unlock()
		type chunk struct {
			Chunk     string    `json:"chunk"`
			Embedding []float32 `json:"embedding"`
		}
		reply := [][]chunk{}
		for _, raw := range body.Data {
			words := string(raw)
			var fields map[string]string
			if json.Unmarshal(raw, &fields) == nil {
				words = fields["strIdxField1"] + fields["strIdxField2"]
			} else if err := json.Unmarshal(raw, &words); err != nil {
				http.Error(writer, err.Error(), http.StatusBadRequest)
				return
			}
			reply = append(reply, []chunk{{words, vectorOf(words)}})
		}
		writer.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(writer).Encode(reply)
	}))
	t.Cleanup(service.Close)
	return service
}

func (e *embedder) requests() []string {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return append([]string{}, e.asked...)
}

type Text struct {
	Id           int       `reindex:"id,,pk"`
	StrIdxField1 string    `reindex:"strIdxField1,-" json:"strIdxField1"`
	StrIdxField2 string    `reindex:"strIdxField2,-" json:"strIdxField2"`
	Vec          []float32 `json:"vec"`
}

// The snippets' EmbedderConnectionPool, UpsertEmbedder and Embedding are these types of package bindings in v5.15.
func TestEmbedding(t *testing.T) {
	DB, service := connect(t), newEmbedder(t)
	open[Text](t, DB, "ns_name")
	embeddingPoolOpts := &bindings.EmbedderConnectionPoolConfig{
		Connections:    20,
		ConnectTimeout: 100,
	}
	upsertEmbedderOpts := &bindings.EmbedderConfig{
		URL:                  service.URL,
		Fields:               []string{"strIdxField1", "strIdxField2"},
		EmbeddingStrategy:    "empty_only",
		ConnectionPoolConfig: embeddingPoolOpts,
	}
	queryEmbedderOpts := bindings.DefaultQueryEmbedderConfig(service.URL)
	embeddingOpts := &bindings.EmbeddingConfig{
		UpsertEmbedder: upsertEmbedderOpts,
		QueryEmbedder:  queryEmbedderOpts,
	}
	for name, kind := range map[string]reindexer.FloatVectorIndexOpts{
		"hnsw":   {M: 32, EfConstruction: 100, StartSize: 200, MultithreadingMode: 0},
		"vec_bf": {},
		"ivf":    {CentroidsCount: 4},
	} {
		opts := kind
		opts.Metric, opts.Dimension, opts.EmbeddingConfig = "inner_product", embedDim, embeddingOpts
		must(t, DB.TruncateNamespace("ns_name"))
		must(t, DB.AddIndex("ns_name", reindexer.IndexDef{
			Name:      "vec",
			JSONPaths: []string{"vec"},
			IndexType: name,
			FieldType: "float_vector",
			Config:    opts,
		}))
		own := vectorOf("zzz")
		for i, item := range []Text{{1, "ab", "cd", nil}, {2, "xxxx", "y", nil}, {3, "given", "", own}} {
			item.Id = i + 1
			must(t, DB.Upsert("ns_name", &item))
		}
		got := all[Text](t, DB.Query("ns_name").SelectAllFields().Sort("id", false))
		equal(t, [][]float32{got[0].Vec, got[1].Vec, got[2].Vec}, [][]float32{vectorOf("abcd"), vectorOf("xxxxy"), own})

		knnBaseSearchParams, err := newBase(10)
		must(t, err)
		var params reindexer.KnnSearchParam = knnBaseSearchParams
		switch name {
		case "hnsw":
			params, err = reindexer.NewIndexHnswSearchParam(100000, knnBaseSearchParams)
		case "ivf":
			params, err = reindexer.NewIndexIvfSearchParam(10, knnBaseSearchParams)
		}
		must(t, err)
		it := DB.Query("ns_name").WhereKnnString("vec", "xx", params).Exec()
		found, err := it.FetchAll()
		must(t, err)
		it.Close()
		equal(t, []int{len(found), found[0].(*Text).Id}, []int{3, 2})
		must(t, DB.DropIndex("ns_name", "vec"))
	}
	upserts, queries := 0, 0
	for _, request := range service.requests() {
		switch {
		case strings.Contains(request, "/api/v1/embedder/") && strings.Contains(request, "produce?format=json "):
			upserts++
			if !strings.Contains(request, `"strIdxField1"`) {
				t.Fatal(request)
			}
		case strings.HasSuffix(request, `/api/v1/embedder/QueryEmbedder/produce?format=text {"data":["xx"]}`) || strings.HasSuffix(request, `/api/v1/embedder/queryembedder/produce?format=text {"data":["xx"]}`):
			queries++
		default:
			t.Fatal(request)
		}
	}
	if upserts == 0 || upserts > 6 || queries != 3 {
		t.Fatalf("%d requests for documents, %d for queries: %v", upserts, queries, service.requests())
	}
}

func TestEmbeddingStrict(t *testing.T) {
	DB, service := connect(t), newEmbedder(t)
	open[Text](t, DB, "ns_name")
	config := bindings.DefaultUpsertEmbedderConfig(service.URL, []string{"strIdxField1", "strIdxField2"})
	config.EmbeddingStrategy = "strict"
	must(t, DB.AddIndex("ns_name", reindexer.IndexDef{Name: "vec", JSONPaths: []string{"vec"}, IndexType: "hnsw", FieldType: "float_vector",
		Config: reindexer.FloatVectorIndexOpts{Metric: "cosine", Dimension: embedDim, EmbeddingConfig: &bindings.EmbeddingConfig{UpsertEmbedder: config}}}))
	must(t, DB.Upsert("ns_name", &Text{Id: 1, StrIdxField1: "a"}))
	if err := DB.Upsert("ns_name", &Text{Id: 2, Vec: vectorOf("own")}); err == nil {
		t.Fatal("a vector was given")
	}
	// Nobody configured a service for queries.
	_, err := DB.Query("ns_name").WhereKnnString("vec", "a", reindexer.BaseKnnSearchParam{}.SetK(1)).Exec().FetchAll()
	refused(t, err, reindexer.ErrCodeNotValid)
	service.Close()
	if err := DB.Upsert("ns_name", &Text{Id: 3}); err == nil {
		t.Fatal("nobody answers for the vector")
	}
}
