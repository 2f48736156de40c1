# berth: `make` builds, `make demo` shows it, `make check` proves it. See docs/HACKING.md.
BUILD  ?= build
PREFIX ?= /usr/local
PYTHON ?= /usr/bin/python3

.PHONY: all
all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD) --prefix=$(PREFIX)
