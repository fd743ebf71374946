"""libFuzzer looks for input that breaks a promise: in WeChat Pay's replies, in events, in the secret, and what else
fuzz/ has a target for."""

import os
import shutil

import pytest

from tools import CARGO, ROOT, run

# What a run starts from, if it is not in fuzz/seeds.
SEEDS = {"event": "events"}


@pytest.fixture(scope="session")
def cargo_fuzz():
    """cargo-fuzz on the stable toolchain, which RUSTC_BOOTSTRAP lets take the flags that it needs."""
    # cargo-fuzz would bring a lock file up to date that nobody committed.
    run("cargo", "tree", "--locked", "--manifest-path", "fuzz/Cargo.toml")
    if not shutil.which("cargo-fuzz"):
        run("cargo", "install", "--locked", "--debug", "--version", "0.13.2", "cargo-fuzz", env=os.environ)
    return CARGO | {"RUSTC_BOOTSTRAP": "1"}


@pytest.mark.parametrize("target", sorted(file.stem for file in (ROOT / "fuzz/fuzz_targets").glob("*.rs")))
def test_fuzz(target, cargo_fuzz, request):
    corpus, seeds = f"fuzz/corpus/{target}", SEEDS.get(target, f"fuzz/seeds/{target}")
    (ROOT / corpus).mkdir(parents=True, exist_ok=True)
    seconds = request.config.getoption("--fuzz-seconds")
    run("cargo", "fuzz", "run", target, corpus, seeds, "--", f"-max_total_time={seconds}", "-max_len=8192",
        "-print_final_stats=0", "-verbosity=0", env=cargo_fuzz, within=seconds + 900)
