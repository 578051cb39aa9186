package annex_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/restream/reindexer/v5"
)

var (
	bars    = flag.Bool("bars", false, "measure KNN and transactions against HTTP")
	nBars   = flag.Int("bars-rows", 100_000, "vectors of the measurement")
	seconds = flag.Duration("bars-time", 3*time.Second, "time of one round of one kind")
	load    = flag.Duration("load", 0, "mixed load of 200 connections, dropped at random, for this long")
)

const (
	barDim, barThreads, barRounds, barBatch = 128, 4, 5, 1000
)

type Bar struct {
	ID  int       `reindex:"id,,pk" json:"id"`
	Vec []float32 `reindex:"vec,hnsw,metric=l2,dimension=128" json:"vec"`
}

// barVectors gives n rows of the sift data set where it is beside the tree (ANX_DATA), as real vectors search differently from
// random ones; else random ones. It says which.
func barVectors(t *testing.T, n int) ([][]float32, string) {
	rows, kind := make([][]float32, n), "random rows"
	data, err := os.ReadFile(filepath.Join(os.Getenv("ANX_DATA"), "sift", "base.npy"))
	rng := rand.New(rand.NewSource(1))
	at := 0
	if err == nil { // version 1.0, uint8, C order
		at = 10 + int(binary.LittleEndian.Uint16(data[8:]))
		if len(data) < at+n*barDim {
			t.Fatalf("%d bytes of sift are too few for %d rows", len(data), n)
		}
		kind = "rows of sift"
	}
	for i := range rows {
		if err != nil {
			rows[i] = randomVector(rng, barDim)
			continue
		}
		rows[i] = make([]float32, barDim)
		for j := range rows[i] {
			rows[i][j] = float32(data[at+i*barDim+j])
		}
	}
	return rows, kind
}

// cpu is the server's user and system time.
func (s *server) cpu(t testing.TB) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Process.Pid))
	must(t, err)
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// rounds runs both kinds in turns and prints calls per second and the server's time per call.
func rounds(t *testing.T, name string, threads int, kinds map[string]func(worker, n int) error) {
	type sum struct {
		calls int64
		wall  time.Duration
		cpu   time.Duration
	}
	sums := map[string]*sum{"rpc": {}, "http": {}}
	for round := range barRounds + 1 {
		for _, kind := range []string{"rpc", "http"} {
			var group sync.WaitGroup
			var calls atomic.Int64
			before, start := shared.cpu(t), time.Now()
			for worker := range threads {
				group.Add(1)
				go func() {
					defer group.Done()
					for n := 0; time.Since(start) < *seconds; n++ {
						if err := kinds[kind](worker, n); err != nil {
							t.Error(kind, err)
							return
						}
						calls.Add(1)
					}
				}()
			}
			group.Wait()
			if round == 0 {
				continue // warm
			}
			s := sums[kind]
			s.calls, s.wall, s.cpu = s.calls+calls.Load(), s.wall+time.Since(start), s.cpu+shared.cpu(t)-before
		}
	}
	rate := func(kind string) float64 { return float64(sums[kind].calls) / sums[kind].wall.Seconds() }
	each := func(kind string) time.Duration { return sums[kind].cpu / time.Duration(max(1, sums[kind].calls)) }
	t.Logf("%s: rpc %.0f/s (server %v a call), http %.0f/s (server %v a call): %.2fx", name, rate("rpc"), each("rpc"), rate("http"), each("http"), rate("rpc")/rate("http"))
}

func httpCall(method, url, body string) (string, error) {
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = errors.New(string(text))
	}
	return string(text), err
}

func TestBars(t *testing.T) {
	if !*bars {
		t.Skip("only with -bars")
	}
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 16
	db := connect(t)
	base := "http://" + shared.http + "/api/v1/db/" + database(t)
	rows, kind := barVectors(t, *nBars+1000)
	queries := rows[*nBars:]
	open[Bar](t, db, "bar")
	open[Bar](t, db, "rpc")
	open[Bar](t, db, "http")
	for first := 0; first < *nBars; first += 5000 {
		tx, err := db.BeginTx("bar")
		must(t, err)
		for i := first; i < min(first+5000, *nBars); i++ {
			must(t, tx.UpsertAsync(&Bar{i, rows[i]}, func(err error) {
				if err != nil {
					t.Error(err)
				}
			}))
		}
		must(t, tx.Commit())
	}
	params, err := reindexer.NewIndexHnswSearchParam(64, reindexer.BaseKnnSearchParam{}.SetK(10))
	must(t, err)
	rounds(t, fmt.Sprintf("KNN k=10 ef=64 of %d %s, %d goroutines", *nBars, kind, barThreads), barThreads, map[string]func(worker, n int) error{
		"rpc": func(worker, n int) error {
			items, err := db.Query("bar").WhereKnn("vec", queries[(n*barThreads+worker)%1000], params).Exec().FetchAll()
			if err == nil && len(items) != 10 {
				err = fmt.Errorf("%d items", len(items))
			}
			return err
		},
		"http": func(worker, n int) error {
			vector, _ := json.Marshal(queries[(n*barThreads+worker)%1000])
			text, err := httpCall("POST", base+"/query", `{"namespace":"bar","filters":[{"cond":"knn","field":"vec","value":`+string(vector)+`,"params":{"k":10,"ef":64}}]}`)
			var answer struct{ Items []Bar }
			if err == nil {
				err = json.Unmarshal([]byte(text), &answer)
			}
			if err == nil && len(answer.Items) != 10 {
				err = errors.New(text)
			}
			return err
		},
	})
	// Transactions of 1,000: the same ids again and again, so that the namespaces do not grow.
	items := make([]*Bar, barBatch)
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for i := range items {
		items[i] = &Bar{i, queries[i%1000]}
	}
	rounds(t, fmt.Sprintf("transaction of %d upserts", barBatch), 1, map[string]func(worker, n int) error{
		"rpc": func(worker, n int) error {
			tx, err := db.BeginTx("rpc")
			if err != nil {
				return err
			}
			for _, item := range items {
				if err := tx.UpsertAsync(item, func(err error) {
					if err != nil {
						t.Error(err)
					}
				}); err != nil {
					return err
				}
			}
			return tx.Commit()
		},
		"http": func(worker, n int) error {
			text, err := httpCall("POST", base+"/namespaces/http/transactions/begin", "")
			var begun struct {
				ID string `json:"tx_id"`
			}
			if err == nil {
				err = json.Unmarshal([]byte(text), &begun)
			}
			if err != nil {
				return err
			}
			lines.Reset()
			for _, item := range items {
				if err := encoder.Encode(item); err != nil {
					return err
				}
			}
			if _, err = httpCall("PATCH", base+"/transactions/"+begun.ID+"/items", lines.String()); err != nil {
				return err
			}
			_, err = httpCall("POST", base+"/transactions/"+begun.ID+"/commit", "")
			return err
		},
	})
}

// proxy passes bytes on to the server and cuts connections at random.
type proxy struct {
	net.Listener
	mutex sync.Mutex
	open  map[net.Conn]net.Conn
	cuts  int
}

func newProxy(t *testing.T, target string) *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{Listener: listener, open: map[net.Conn]net.Conn{}}
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			p.mutex.Lock()
			p.open[near] = far
			p.mutex.Unlock()
			pass := func(from, to net.Conn) {
				_, _ = io.Copy(to, from)
				near.Close()
				far.Close()
				p.mutex.Lock()
				delete(p.open, near)
				p.mutex.Unlock()
			}
			go pass(near, far)
			go pass(far, near)
		}
	}()
	return p
}

func (p *proxy) cut() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for near, far := range p.open { // Go's order of maps is random
		far.Close()
		near.Close()
		p.cuts++
		return
	}
}

// One client of the load: 50 documents of its own, written and read in every way. Lost connections are its lot, wrong answers
// are not.
func loadClient(db *reindexer.Reindexer, client int, rng *rand.Rand, done <-chan struct{}, fail func(error)) (calls, lost int) {
	const each = 50
	vector := func(i, version int) []float32 { return []float32{float32(i), float32(version % 7), 0} }
	make1 := func(i, version int) *Person {
		item := person(i)
		item.Age, item.Vec = int32(version), vector(i, version)
		return item
	}
	for version := 0; ; version++ {
		select {
		case <-done:
			return
		default:
		}
		i := client*each + rng.Intn(each)
		var err error
		switch rng.Intn(6) {
		case 0:
			err = db.Upsert("people", make1(i, version))
		case 1:
			var items []any
			items, err = db.Query("people").WhereInt("id", reindexer.EQ, i).SelectAllFields().Exec().FetchAll()
			for _, item := range items {
				got := item.(*Person)
				if got.ID != int64(i) || got.Name != person(i).Name || got.Vec[0] != float32(i) || got.Vec[1] != float32(got.Age%7) {
					fail(fmt.Errorf("item %d: %+v", i, got))
				}
			}
		case 2:
			var items []any
			var ranks []float32
			items, ranks, err = db.Query("people").WithRank().WhereKnn("vec", vector(i, version), reindexer.BaseKnnSearchParam{}.SetK(5)).Exec().FetchAllWithRank()
			for at := range items {
				if at > 0 && ranks[at] < ranks[at-1] {
					fail(fmt.Errorf("ranks %v", ranks))
				}
			}
		case 3:
			var tx *reindexer.Tx
			if tx, err = db.BeginTx("people"); err != nil {
				break
			}
			for n := range 10 {
				if err = tx.Upsert(make1(client*each+n, version)); err != nil {
					break
				}
			}
			if err != nil || rng.Intn(3) == 0 {
				_ = tx.Rollback()
				break
			}
			var n int
			if n, err = tx.CommitWithCount(); err == nil && n != 10 {
				fail(fmt.Errorf("%d of 10 committed", n))
			}
		case 4:
			_, err = db.Query("people").WhereInt("id", reindexer.EQ, i).Delete()
		case 5:
			it := db.Query("people").WhereInt("id", reindexer.RANGE, client*each, client*each+each-1).FetchCount(7).Exec()
			for last := -1; it.Next(); {
				got := int(it.Object().(*Person).ID)
				if got < client*each || got >= client*each+each {
					fail(fmt.Errorf("item %d is not client %d's (after %d)", got, client, last))
				}
				last = got
				if rng.Intn(20) == 0 {
					break
				}
			}
			err = it.Error()
			it.Close()
		}
		calls++
		if err != nil {
			var answer reindexer.Error
			if errors.As(err, &answer) && answer.Code() != reindexer.ErrCodeNetwork && answer.Code() != reindexer.ErrCodeLogic && answer.Code() != 36 {
				fail(err)
			}
			lost++
		}
	}
}

func TestLoad(t *testing.T) {
	if *load == 0 {
		t.Skip("only with -load 2m or the like")
	}
	const clients = 200
	s, err := newServer()
	must(t, err)
	defer s.stop()
	p := newProxy(t, s.rpc)
	defer p.Close()
	done := make(chan struct{})
	var group sync.WaitGroup
	var calls, lost, wrong atomic.Int64
	first := connectTo(t, s)
	open[Person](t, first, "people")
	var dbs [clients]*reindexer.Reindexer // all are there before the load begins, which would slow their coming
	for client := range clients {
		db, err := reindexer.NewReindex("cproto://"+p.Addr().String()+"/"+database(t), reindexer.WithConnPoolSize(1), reindexer.WithRetryAttempts(2, 0))
		must(t, err)
		defer db.Close()
		for try := 0; ; try++ {
			if err = db.OpenNamespace("people", reindexer.DefaultNamespaceOptions(), Person{}); err == nil || try > 5 {
				break
			}
		}
		must(t, err)
		dbs[client] = db
	}
	for client, db := range dbs {
		group.Add(1)
		go func() {
			defer group.Done()
			c, l := loadClient(db, client, rand.New(rand.NewSource(int64(client))), done, func(err error) {
				if wrong.Add(1) < 10 {
					t.Error(err)
				}
			})
			calls.Add(int64(c))
			lost.Add(int64(l))
		}()
	}
	memory := []int{}
	start := time.Now()
	for sample := 1; time.Since(start) < *load; {
		time.Sleep(100 * time.Millisecond)
		p.cut()
		if time.Since(start) > *load*time.Duration(sample)/10 { // of 10 minutes: one a minute
			memory = append(memory, s.memoryKB(t))
			sample++
		}
	}
	if len(memory) < 10 {
		memory = append(memory, s.memoryKB(t))
	}
	close(done)
	group.Wait()
	t.Logf("%d calls, %d lost with %d connections that were cut, %d wrong answers; resident KB %v", calls.Load(), lost.Load(), p.cuts, wrong.Load(), memory)
	if n := len(memory); n > 4 && memory[n-1] > memory[n/2]*11/10 {
		t.Errorf("memory grows: %v", memory)
	}
}
