# The verbs of this repository. `make` alone lists them.
SHELL := /bin/bash
CARGO ?= cargo
SEEDS ?= 20000
# More words for a bench: make bench-failover ARGS='--engine redis-7.0 --runs 9 --trace'
ARGS ?=
BENCH = $(CARGO) run --release --locked -p shardwright-testkit --bin bench --

.DEFAULT_GOAL := help
.PHONY: help build demo demo-down test lint sim bench-create bench-failover bench-reshard bench-restart bench-kills \
	bench-kubernetes kubernetes kubernetes-down images e2e engines tools

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## a cluster on this machine: write, kill a primary, see it heal; leaves it running
	@scripts/demo.sh

demo-down: ## stop the demo's cluster and remove its data
	@scripts/demo.sh down

test: ## every test this machine can run, and what was skipped and why
	@scripts/test.sh

lint: ## formatting, clippy, documentation, shell scripts, licences of dependencies
	@scripts/lint.sh

sim: ## simulated histories with faults: make sim SEEDS=20000
	@scripts/tools.sh
	$(CARGO) run --release --locked -p shardwright-sim --bin sim -- --seeds $(SEEDS)

bench-create: build engines ## time `create` against redis-cli --cluster create, on each engine
	$(BENCH) create $(ARGS)

bench-failover: build engines ## time without writes after kill -9 of a primary, watched and not
	$(BENCH) failover $(ARGS)

bench-reshard: build engines ## slots to a new shard, against redis-cli; also make bench-reshard ARGS='--engine redis-7.0 --keys 100000'
	$(BENCH) reshard $(ARGS)

bench-restart: build engines ## a whole cluster back: all addresses changed, all processes killed
	$(BENCH) restart $(ARGS)

RUNS ?= 200
bench-kills: build engines ## kill servers and movers while slots move, look for lost writes: make bench-kills RUNS=200
	$(BENCH) kills --engine redis-7.0 --engine valkey-9.1 --runs $(RUNS) $(ARGS)

kubernetes: ## a real Kubernetes of three nodes on this machine (needs root)
	@scripts/kubernetes/up

kubernetes-down: ## stop that Kubernetes and remove its state
	@scripts/kubernetes/down

images: ## build the images and load them into that Kubernetes
	@scripts/kubernetes/load

e2e: ## every case on the Kubernetes of KUBECONFIG, else on the one of this machine: make e2e ARGS='article'
	@scripts/e2e.sh $(ARGS)

bench-kubernetes: ## apply to Ready, restart, failover and memory on Kubernetes, beside doing it by hand
	@scripts/e2e.sh --bench $(ARGS)

engines: ## install the servers to test with into .engines/
	@scripts/engines.sh

build: tools ## the release binary, target/release/shardwright
	$(CARGO) build --release --locked -p shardwright --bin shardwright

tools: ## what the build needs besides Rust: a C compiler for linking
	@scripts/tools.sh
