//! The real binary and the benchmark's baseline, built if need be.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use serde_json::Value;

/// Builds `close-order` in the profile of this program and returns its path. Cargo's progress goes to standard error.
pub fn build() -> anyhow::Result<PathBuf> {
    build_one("close-order", "close-order")
}

/// Builds the baseline of the benchmark in the same way: an echo, in the sandbox's own package.
pub fn build_baseline() -> anyhow::Result<PathBuf> {
    build_one("sandbox", "baseline")
}

fn build_one(package: &str, name: &str) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command.args(["build", "--package", package, "--bin", name, "--message-format", "json-render-diagnostics"]);
    // Cargo's variables about this program's own package would make build scripts, and so everything, run again.
    for (name, _) in env::vars().filter(|(name, _)| {
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| name.starts_with(prefix))
    }) {
        command.env_remove(name);
    }
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.stderr(Stdio::inherit()).output().context("can't run cargo")?;
    ensure!(output.status.success(), "cargo could not build {name}");
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let target = message.get("target")?.get("name")?.as_str()?;
        (target == name).then(|| message.get("executable")?.as_str().map(PathBuf::from))?
    });
    program.with_context(|| format!("cargo did not report the path of {name}"))
}
