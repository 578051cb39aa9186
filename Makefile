# The front door. The build itself is meson.build; these are the commands to remember.
PREFIX ?= /usr/local
DESTDIR ?=
BUILD := build
KILLS := 2000
SOAK := 10m
SECONDS := 600
# Of make run.
HTTP := 9088
RPC := 6534
EMBEDDER := 7777
DB := annex-data

help:
	@echo "Annex, a vector search system"
	@echo
	@echo "  make run      install what is missing, build, and find Debian software by meaning: the place to start"
	@echo "                HTTP=$(HTTP) RPC=$(RPC) EMBEDDER=$(EMBEDDER) are its ports, DB=$(DB) its folder"
	@echo "  make demo-postgres   a PostgreSQL of its own, an index built by another process, neighbors; leaves nothing behind"
	@echo "  make test     install what is missing, build, run every test"
	@echo "  make build    the program, at build/annex"
	@echo "  make kills    kill the document database while it writes, $(KILLS) times, and look for losses"
	@echo "  make soak     200 clients of the binary protocol for $(SOAK), cut off at random (needs Go and its connector)"
	@echo "  make soak-threads  mixed load under ThreadSanitizer for $(SECONDS) s (SECONDS=..)"
	@echo "  make bench    measure against hnswlib and faiss; writes docs/benchmarks.md"
	@echo "  make bench-postgres PGVECTOR=FOLDER DATA='FOLDER ..'  the PostgreSQL index against pgvector's, built in FOLDER"
	@echo "  make install  program, library, headers, manual, completion, PostgreSQL extension (PREFIX=$(PREFIX) DESTDIR=$(DESTDIR))"
	@echo "  make clean    remove every build folder"

deps:
	@tools/install-deps $(DEPS)

$(BUILD)/build.ninja:
	@rm -rf $(BUILD)
	@mkdir -p $(BUILD)
	@meson setup $(BUILD) -Dwerror=true --prefix=$(abspath $(PREFIX)) >$(BUILD)-setup.log 2>&1 \
	    || { cat $(BUILD)-setup.log; rm -rf $(BUILD) $(BUILD)-setup.log; exit 1; }
	@rm -f $(BUILD)-setup.log

compile: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet programs

build: DEPS := --build
build: deps
	@$(MAKE) --no-print-directory compile
	@echo "build/annex is ready"

run: DEPS := --run
run: deps
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet annex
	@exec tools/run --build $(BUILD) --db $(DB) --http $(HTTP) --rpc $(RPC) --embedder $(EMBEDDER)

demo-postgres: DEPS := --postgres
demo-postgres: deps
	@$(MAKE) --no-print-directory compile
	@tools/demo-postgres --build $(BUILD)

test: deps
	@tools/run-tests $(STAGES)

kills: deps
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet tests/test_db_kill tests/test_db_stages
	@$(BUILD)/tests/test_db_kill $(KILLS)
	@$(BUILD)/tests/test_db_stages 10

soak: deps
	@$(MAKE) --no-print-directory compile
	@ANX_GO_TIMEOUT=0 tests/scripts/test_go -v -run TestLoad -load $(SOAK)

soak-threads: deps
	@[ -f build-tsan/build.ninja ] || meson setup build-tsan -Dtests=enabled -Db_sanitize=thread -Db_ndebug=false -Db_lundef=false \
	    -Doptimization=1 -Dpeers=disabled >/dev/null
	@ninja -C build-tsan --quiet annex
	@tests/scripts/soak_threads --seconds $(SECONDS)

bench: deps
	@$(MAKE) --no-print-directory compile
	@tools/bench $(BUILD)

bench-postgres: deps
	@$(MAKE) --no-print-directory compile
	@ANX_BUILD=$(BUILD) bench/postgres/bench_postgres --pgvector $(PGVECTOR) $(addprefix --data ,$(DATA))

install: DEPS := --build
install: deps
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@meson configure $(BUILD) --prefix=$(abspath $(PREFIX)) >/dev/null
	@$(MAKE) --no-print-directory compile
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild --quiet
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" -eq 0 ]; then ldconfig; fi

clean:
	rm -rf $(BUILD) build-asan build-tsan

.PHONY: help deps compile build run test kills soak bench bench-postgres install clean soak-threads demo-postgres
