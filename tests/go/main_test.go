// Package annex_test drives `annex serve` with the official Reindexer Go connector, as an application would. README.md says
// how it is run; nothing here knows the wire format.
package annex_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/restream/reindexer/v5"
	_ "github.com/restream/reindexer/v5/bindings/cproto"
)

const deadline = 30 * time.Second

// server is one `annex serve` on loopback and free ports.
type server struct {
	folder, rpc, http string
	words             []string
	process           *exec.Cmd
}

var shared *server

func program() string {
	if path := os.Getenv("ANX_BUILD"); path != "" {
		return filepath.Join(path, "annex")
	}
	return "../../build/annex"
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

func newServer(words ...string) (*server, error) {
	folder, err := os.MkdirTemp("", "annex-go-")
	if err != nil {
		return nil, err
	}
	s := &server{folder: folder, words: words}
	for _, address := range []*string{&s.rpc, &s.http} {
		if *address, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	if err = s.start(); err != nil {
		os.RemoveAll(folder)
	}
	return s, err
}

var keptThread = make(chan func())

// onKeptThread calls on a thread that lives as long as the tests: the kernel takes the end of the starting thread for that of
// the parent.
func onKeptThread(call func() error) error {
	done := make(chan error)
	keptThread <- func() { done <- call() }
	return <-done
}

func keepThread() {
	runtime.LockOSThread()
	for call := range keptThread {
		call()
	}
}

func (s *server) start() error {
	words := append([]string{"serve", "--db", filepath.Join(s.folder, "db"), "--httpaddr", s.http, "--httpsaddr", "none", "--rpcaddr", s.rpc,
		"--loglevel", "warning"}, s.words...)
	s.process = exec.Command(program(), words...)
	s.process.Stdout, s.process.Stderr = os.Stderr, os.Stderr
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a panic of the tests leaves none behind
	if err := onKeptThread(s.process.Start); err != nil {
		return err
	}
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s.answers(s.rpc) && s.answers(s.http) {
			return nil
		}
	}
	s.kill(syscall.SIGKILL)
	return errors.New("annex serve does not listen")
}

func (s *server) answers(address string) bool {
	connection, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	connection.Close()
	return true
}

func (s *server) kill(number os.Signal) error {
	if err := s.process.Process.Signal(number); err != nil {
		return err
	}
	state, err := s.process.Process.Wait()
	if err == nil && number == syscall.SIGTERM && !state.Success() {
		err = fmt.Errorf("annex serve ended with %v", state)
	}
	return err
}

func (s *server) stop() error {
	err := s.kill(syscall.SIGTERM)
	os.RemoveAll(s.folder)
	return err
}

// memoryKB is the resident size of the server.
func (s *server) memoryKB(t testing.TB) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Process.Pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	must(t, err)
	return kb
}

// rest is a request over HTTP; the database is the test's.
func (s *server) rest(t testing.TB, method, path, body string) string {
	t.Helper()
	request, err := http.NewRequest(method, "http://"+s.http+"/api/v1/db/"+database(t)+path, strings.NewReader(body))
	must(t, err)
	reply, err := http.DefaultClient.Do(request)
	must(t, err)
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	must(t, err)
	if reply.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s: %s", method, path, reply.Status, text)
	}
	return string(text)
}

func TestMain(m *testing.M) {
	flag.Parse()
	go keepThread()
	var err error
	if shared, err = newServer(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err = shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// database is one of its own for every test.
func database(t testing.TB) string {
	return strings.NewReplacer("/", "_", "#", "_").Replace(t.Name())
}

func connectTo(t testing.TB, s *server, options ...any) *reindexer.Reindexer {
	t.Helper()
	options = append([]any{reindexer.WithCreateDBIfMissing(), reindexer.WithAppName("annex-tests")}, options...)
	db, err := reindexer.NewReindex("cproto://"+s.rpc+"/"+database(t), options...)
	must(t, err)
	t.Cleanup(db.Close)
	return db
}

func connect(t testing.TB, options ...any) *reindexer.Reindexer {
	t.Helper()
	return connectTo(t, shared, options...)
}

func open[T any](t testing.TB, db *reindexer.Reindexer, name string) {
	t.Helper()
	var item T
	must(t, db.OpenNamespace(name, reindexer.DefaultNamespaceOptions(), item))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t testing.TB, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// refused wants an error of the server with this code.
func refused(t testing.TB, err error, code int) {
	t.Helper()
	var answer reindexer.Error
	if !errors.As(err, &answer) || answer.Code() != code {
		t.Fatalf("got %v, want an error with code %d", err, code)
	}
}

// all are the documents of a query, as pointers of their type.
func all[T any](t testing.TB, query *reindexer.Query) []*T {
	t.Helper()
	items, err := query.Exec().FetchAll()
	must(t, err)
	out := make([]*T, len(items))
	for i, item := range items {
		out[i] = item.(*T)
	}
	return out
}

// ranked are documents and their ranks.
func ranked[T any](t testing.TB, query *reindexer.Query) ([]*T, []float32) {
	t.Helper()
	items, ranks, err := query.Exec().FetchAllWithRank()
	must(t, err)
	out := make([]*T, len(items))
	for i, item := range items {
		out[i] = item.(*T)
	}
	return out, ranks
}

func randomVector(rng *rand.Rand, dim int) []float32 {
	out := make([]float32, dim)
	for i := range out {
		out[i] = float32(rng.NormFloat64())
	}
	return out
}

func squared(a, b []float32) (sum float64) {
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		sum += d * d
	}
	return
}

func near(t testing.TB, got, want float64) {
	t.Helper()
	if diff := got - want; diff > 1e-3*(1+want) || -diff > 1e-3*(1+want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}
