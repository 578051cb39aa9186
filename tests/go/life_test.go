package annex_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/restream/reindexer/v5"
)

// The server goes away and comes back, politely and by a kill; the application does nothing about it.
func TestReconnect(t *testing.T) {
	s, err := newServer()
	must(t, err)
	defer s.stop()
	db := connectTo(t, s, reindexer.WithRetryAttempts(3, 3))
	open[Person](t, db, "people")
	for round, number := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM} {
		for i := range 50 {
			must(t, db.Upsert("people", person(round*50+i)))
		}
		_ = s.kill(number)
		must(t, s.start())
		end := time.Now().Add(deadline)
		for db.Ping() != nil {
			if time.Now().After(end) {
				t.Fatal("no connection any more")
			}
			time.Sleep(20 * time.Millisecond)
		}
		// Fields that only this client's dictionary knew are read and written as before.
		got := all[Person](t, db.Query("people").Sort("id", false).SelectAllFields())
		equal(t, len(got), round*50+50)
		equal(t, got[round*50+7].Address, person(round*50+7).Address)
		nearest := all[Person](t, db.Query("people").WhereKnn("vec", []float32{float32(round*50 + 7), 1, 0}, reindexer.BaseKnnSearchParam{}.SetK(1)))
		equal(t, names(nearest), []int64{int64(round*50 + 7)})
	}
}

func TestConcurrent(t *testing.T) {
	const writers, each = 16, 150
	db := connect(t)
	open[Person](t, db, "people")
	var group sync.WaitGroup
	failures := make(chan error, writers*2)
	for w := range writers {
		group.Add(2)
		go func() {
			defer group.Done()
			for i := w * each; i < (w+1)*each; i++ {
				item := person(i)
				item.Free = map[string]any{fmt.Sprint("key", w, "_", i%10): int64(i)}
				if err := db.Upsert("people", item); err != nil {
					failures <- err
					return
				}
				got, err := db.Query("people").WhereInt64("id", reindexer.EQ, int64(i)).Exec().FetchOne()
				if err != nil || toInt(got.(*Person).Free[fmt.Sprint("key", w, "_", i%10)]) != int64(i) {
					failures <- fmt.Errorf("item %d: %v %v", i, got, err)
					return
				}
			}
		}()
		go func() {
			defer group.Done()
			rng := rand.New(rand.NewSource(int64(w)))
			for range each {
				items, ranks, err := db.Query("people").WithRank().WhereKnn("vec", []float32{float32(rng.Intn(writers * each)), 1, 0}, reindexer.BaseKnnSearchParam{}.SetK(10)).Exec().FetchAllWithRank()
				if err == nil && len(items) != len(ranks) {
					err = fmt.Errorf("%d items, %d ranks", len(items), len(ranks))
				}
				if err != nil {
					failures <- err
					return
				}
			}
		}()
	}
	group.Wait()
	select {
	case err := <-failures:
		t.Fatal(err)
	default:
	}
	equal(t, len(all[Person](t, db.Query("people"))), writers*each)
}

// Several clients make the same namespace with types that have different fields.
func TestTwoApplications(t *testing.T) {
	type Other struct {
		ID    int64  `reindex:"id,,pk" json:"id"`
		Extra string `reindex:"extra,hash" json:"extra"`
		Name  string `reindex:"name,tree" json:"name"`
	}
	first, second := connect(t), connect(t)
	open[Person](t, first, "people")
	must(t, second.OpenNamespace("people", reindexer.DefaultNamespaceOptions(), Other{}))
	for i := range 20 {
		must(t, first.Upsert("people", person(2*i)))
		must(t, second.Upsert("people", &Other{int64(2*i + 1), fmt.Sprint("extra ", i), "other"}))
	}
	equal(t, len(all[Person](t, first.Query("people"))), 40)
	got := all[Other](t, second.Query("people").Where("extra", reindexer.EQ, "extra 7"))
	equal(t, *got[0], Other{15, "extra 7", "other"})
}

func TestHTTPToo(t *testing.T) {
	db := connect(t)
	people(t, db, 10)
	text := shared.rest(t, "POST", "/sqlquery", "SELECT id, vec FROM people WHERE KNN(vec, [3, 1, 0], k=1)")
	if !strings.Contains(text, `{"id":3,"vec":[3.0,1.0,0.0]}`) {
		t.Fatal(text)
	}
	shared.rest(t, "POST", "/namespaces/people/items", `{"id":77,"name":"over HTTP","vec":[9,9,9],"free":{"new_name":[1,"a",null]}}`)
	got := all[Person](t, db.Query("people").Where("id", reindexer.EQ, 77).SelectAllFields())[0]
	equal(t, []any{got.Name, got.Vec}, []any{"over HTTP", []float32{9, 9, 9}})
	if _, ok := got.Free["new_name"]; !ok {
		t.Fatal(got.Free)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	s, err := newServer("--urpcaddr", path)
	must(t, err)
	defer s.stop()
	db, err := reindexer.NewReindex("ucproto://"+path+":/db", reindexer.WithCreateDBIfMissing())
	must(t, err)
	defer db.Close()
	people(t, db, 5)
	equal(t, len(all[Person](t, db.Query("people"))), 5)
}

func TestTLS(t *testing.T) {
	folder := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	must(t, err)
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "annex"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(cryptorand.Reader, &template, &template, &key.PublicKey, key)
	must(t, err)
	secret, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	cert, private := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(private, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), 0o600))
	address, err := freeAddress()
	must(t, err)
	s, err := newServer("--rpcsaddr", address, "--ssl-cert", cert, "--ssl-key", private)
	must(t, err)
	defer s.stop()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	db, err := reindexer.NewReindex("cprotos://"+address+"/db", reindexer.WithCreateDBIfMissing(), reindexer.WithTLSConfig(&tls.Config{RootCAs: roots}))
	must(t, err)
	defer db.Close()
	people(t, db, 5)
	equal(t, len(all[Person](t, db.Query("people"))), 5)
}

func TestUsers(t *testing.T) {
	folder := t.TempDir()
	must(t, os.WriteFile(filepath.Join(folder, "users.yml"), []byte("owner:\n  hash: secret\n  roles:\n    \"*\": owner\n"), 0o600))
	s, err := newServer("--security", "--db", folder)
	must(t, err)
	defer s.stop()
	db, err := reindexer.NewReindex("cproto://owner:secret@"+s.rpc+"/db", reindexer.WithCreateDBIfMissing())
	must(t, err)
	defer db.Close()
	people(t, db, 1)
	wrong, err := reindexer.NewReindex("cproto://owner:wrong@"+s.rpc+"/db", reindexer.WithCreateDBIfMissing())
	if err == nil {
		err = wrong.Status().Err
		wrong.Close()
	}
	if err == nil {
		t.Fatal("logged in with a wrong password")
	}
}

// The program of examples/go, which the runner of these tests puts beside them.
func TestExample(t *testing.T) {
	if _, err := os.Stat("example/main.go"); err != nil {
		t.Skip("no example/main.go here; tests/scripts/test_go brings it")
	}
	for range 2 {
		output, err := exec.Command("go", "run", "./example", "cproto://"+shared.rpc+"/example").CombinedOutput()
		if err != nil {
			t.Fatal(string(output))
		}
		equal(t, string(output), "chili        9   0.03\nsoup         5   0.72\napple pie    4   1.52\n")
	}
}
