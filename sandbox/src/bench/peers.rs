//! The peers: the same close with the usual libraries of Node.js and Python, from `benches/peers`. They are installed into
//! `target/peers`, at the versions that are pinned there, from the package registries.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use super::Program;

/// Installs the peers and returns them as programs to measure.
///
/// # Errors
/// When Node.js, npm or Python 3 with pip is missing, or a package can't be installed.
pub fn install() -> anyhow::Result<Vec<Program>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the sandbox lies in a workspace")?;
    let copy = |peer: &str, files: &[&str]| -> anyhow::Result<PathBuf> {
        let folder = workspace.join("target/peers").join(peer);
        fs::create_dir_all(&folder)?;
        for file in files {
            let source = workspace.join("benches/peers").join(peer).join(file);
            fs::copy(&source, folder.join(file)).with_context(|| format!("can't copy {}", source.display()))?;
        }
        Ok(folder)
    };

    let folder = copy("node", &["package.json", "package-lock.json", "function.js"])?;
    // npm installs only what differs; what is installed already is not loaded again.
    run(Command::new("npm")
        .args(["install", "--omit=dev", "--no-audit", "--no-fund", "--no-save"])
        .current_dir(&folder))?;
    let node = output(Command::new("node").args(["-p", "process.execPath"]))?;
    let node = Program::script("Node.js with tenpay", node.into(), "function.js", folder);

    let folder = copy("python", &["requirements.txt", "function.py"])?;
    let installed = folder.join("installed.txt");
    let requirements = fs::read(folder.join("requirements.txt"))?;
    // pip installs everything again into a folder that has it, so what it has is noted.
    if fs::read(&installed).ok().as_ref() != Some(&requirements) {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade"]);
        run(pip.args(["--requirement", "requirements.txt", "--target", "."]).current_dir(&folder))?;
        fs::write(&installed, &requirements)?;
    }
    let python = output(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]))?;
    let python = Program::script("Python with wechatpy", python.into(), "function.py", folder);
    Ok(vec![node, python])
}

/// Runs a command whose messages are for people, on standard error: standard output has the figures.
fn run(command: &mut Command) -> anyhow::Result<()> {
    output(command).map(|_| ())
}

/// Runs a command and returns what it printed.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("can't run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed with {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
