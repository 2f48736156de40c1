# berth: `make` builds, `make demo` shows it, `make check` proves it. See docs/HACKING.md.
BUILD  ?= build
PREFIX ?= /usr/local
PYTHON ?= /usr/bin/python3
# Seconds for each target of `make fuzz`.
SECONDS ?= 60

.PHONY: all
all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@command -v meson >/dev/null && command -v ninja >/dev/null || \
		{ echo "meson and ninja are needed to build berth"; tools/deps missing build; exit 1; }
	meson setup $(BUILD) --prefix=$(PREFIX) || { tools/deps missing build; exit 1; }

# Installs the packages of packages.txt that are missing; does nothing when none is.
.PHONY: deps-build deps-demo deps-check deps-bench
deps-build deps-demo deps-check deps-bench: deps-%:
	@tools/deps install $*

# Only the programs: tests, benches and fuzzers take five times as long to build.
PROGRAMS = berth berthd berth-dispatch berth-peer berth-rendezvous berth-upstream libberth-preload.so
.PHONY: demo
demo: deps-demo
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD) $(PROGRAMS)
	@demo/demo.sh $(BUILD)

.PHONY: check
check: deps-check
	@$(PYTHON) tests/run.py --build $(BUILD)

.PHONY: bench
bench: deps-bench
	@$(MAKE) --no-print-directory all
	$(PYTHON) bench/run.py --build $(BUILD)
	$(PYTHON) bench/upstream.py --build $(BUILD)
	$(PYTHON) bench/lifecycle.py --build $(BUILD)
	$(PYTHON) bench/rendezvous.py --build $(BUILD)
	$(PYTHON) bench/session.py --build $(BUILD)

.PHONY: bench-lifecycle
bench-lifecycle: deps-bench
	@$(MAKE) --no-print-directory all
	$(PYTHON) bench/lifecycle.py --build $(BUILD)

.PHONY: bench-rendezvous
bench-rendezvous: deps-bench
	@$(MAKE) --no-print-directory all
	$(PYTHON) bench/rendezvous.py --build $(BUILD)

# `berth dial` through every pair of NATs, ten times each: half an hour. Goes on where it was broken off.
# KINDS=pub,apdf,sym: only these; RUNS=2: less often.
RUNS ?= 10
.PHONY: natlab
natlab: deps-check
	@$(MAKE) --no-print-directory all
	BERTH_BUILD=$(abspath $(BUILD)) $(PYTHON) tests/natlab/matrix.py --runs $(RUNS) $(if $(KINDS),--kinds $(KINDS)) \
		--html $(BUILD)/natlab.html --problems $(BUILD)/natlab-problems.txt

.PHONY: fuzz
fuzz: deps-check
	@$(PYTHON) tools/fuzz.py --seconds $(SECONDS)

.PHONY: install
install: all
	meson configure $(BUILD) -Dprefix=$(PREFIX)
	meson install -C $(BUILD)

SOURCES = find src lib include examples tests fuzz bench man -name '*.[ch]' 2>/dev/null

.PHONY: format format-check
format:
	$(SOURCES) | xargs clang-format -i
format-check:
	$(SOURCES) | xargs clang-format --dry-run --Werror

.PHONY: lint
lint: format-check
	tools/check-layers

.PHONY: clean
clean:
	rm -rf $(BUILD) build-san build-fuzz
