# Everything here is a script in scripts/, which says what it does.

# Build output lives outside the checkout, and is shared by all of them.
cache = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/cumulet
export CARGO_TARGET_DIR ?= $(cache)/target
export STATE_DIR ?= /var/lib/cumulet
export LISTEN ?= 127.0.0.1:8773

guests_dir = $(cache)/guests

.PHONY: help run test test-setup test-cluster test-faults test-clients bench setup guests fmt lint

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## prepare the host, build, and run a cloud in the foreground (STATE_DIR, LISTEN)
	@scripts/run

test: ## what every change has to pass: checks, unit tests, and clouds with real guests
	@scripts/test

test-setup: ## the tests of set-up, in clean Debian systems that are made for it
	@scripts/test-setup

test-cluster: ## of that, what roles as processes can change, on PostgreSQL and on MariaDB
	@scripts/test-cluster

test-faults: ## the tests of faults with their long times, and a table of trials, failures and recovery times
	@scripts/test-faults

test-clients: ## Terraform, Ansible, Packer, Libcloud and other foreign clients
	@scripts/test-clients

bench: ## the benchmarks, as a table
	@scripts/bench

setup: ## install what is missing on this host (also for the tests), and start libvirtd
	@scripts/setup-host --test

guests: ## build the tiny and the Debian guest images
	tests/guests/tiny/build $(guests_dir)/tiny.qcow2
	tests/guests/debian/build $(guests_dir)/debian.qcow2

fmt: ## format the Rust code
	cargo fmt --all

lint: ## format, clippy and tidy, without changing anything
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo xtask tidy
