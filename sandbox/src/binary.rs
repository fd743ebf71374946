//! The real binary, built if need be.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use serde_json::Value;

/// Builds `close-order` in the profile of this very program and says where it lies. Cargo's progress goes to standard
/// error.
///
/// # Errors
/// When cargo can't be run or the build fails.
pub fn build() -> anyhow::Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the sandbox lies in a workspace")?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace).args(["build", "--package", "close-order", "--bin", "close-order"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.stderr(Stdio::inherit()).output().context("can't run cargo")?;
    ensure!(output.status.success(), "cargo could not build close-order");
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let target = message.get("target")?.get("name")?.as_str()?;
        (target == "close-order").then(|| message.get("executable")?.as_str().map(PathBuf::from))?
    });
    program.context("cargo did not say where close-order lies")
}
