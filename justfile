# One line each; `just` lists them. What CI does is `.ci/run`, step by step.

default:
    @just --list

# Format the code
fmt:
    cargo fmt

# fmt, clippy, rustdoc, licences, alert rules
lint:
    .ci/run lint

# Unit tests, stories, tidy
test:
    cargo test

# Beside and among real peers, and the gateway conformance suite where it is at hand
interop: build
    .ci/run interop conformance network

# What takes longer than a test: writes docs/evidence.md
evidence *NAMES: build
    python3 tests/evidence/run.py {{NAMES}}

# Our own parts, then the whole beside Kubo and nginx
bench: build
    cargo bench --features testing
    python3 tests/evidence/run.py bench

# Every fuzz target for SECONDS each (nightly Rust, cargo-fuzz)
fuzz SECONDS="60":
    for target in $(cargo fuzz list); do cargo fuzz run "$target" -- -max_total_time={{SECONDS}} || exit 1; done

# A node on this machine
run *ARGS:
    cargo run --release -- {{ARGS}}

build:
    cargo build --release

# Write docs/metrics.md anew
metrics:
    UPDATE=1 cargo test --test tidy
