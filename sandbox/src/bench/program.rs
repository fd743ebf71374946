//! What is measured: close-order, the baseline, and the same close in other languages.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use flate2::{Compression, write::DeflateEncoder};

use crate::mock::identity::Api;

/// What a zip has beside a file's bytes and twice its name, in bytes: local header and central header; and at its end.
const ZIP_HEADERS: usize = 30 + 46;
const ZIP_END: usize = 22;

/// What a program does, and so which answer is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It answers with the event.
    Baseline,
    /// It closes the order, or every order of an SQS batch, over this interface.
    CloseOrder(Api),
    /// It closes the order of a direct call, over API v2.
    Peer,
}

/// A program to measure.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name in the table.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    pub(super) path: PathBuf,
    /// The script, if the program is its interpreter.
    pub(super) script: Option<PathBuf>,
    /// The file or folder that is uploaded.
    package: PathBuf,
}

impl Program {
    /// A program that is one file.
    #[must_use]
    pub fn new(name: &str, kind: Kind, path: PathBuf) -> Self {
        Self { name: name.to_owned(), kind, package: path.clone(), path, script: None }
    }

    /// How large its zip is, in bytes; Lambda starts the file `bootstrap`.
    pub(super) fn zip_size(&self) -> anyhow::Result<usize> {
        let name = if self.package.is_dir() { 0 } else { "bootstrap".len() };
        Ok(zip_size(&self.package, name)? + ZIP_END)
    }
}

fn zip_size(path: &Path, name: usize) -> anyhow::Result<usize> {
    if path.is_dir() {
        let prefix = if name == 0 { 0 } else { name + 1 };
        // Neither of these is deployed: interpreters make the one, and installers the other, again.
        let entries = fs::read_dir(path)?.filter(|entry| {
            entry.as_ref().is_ok_and(|entry| entry.file_name() != "__pycache__" && entry.file_name() != ".bin")
        });
        return entries.map(|entry| entry.map(|it| zip_size(&it.path(), prefix + it.file_name().len()))?).sum();
    }
    let bytes = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
    deflate.write_all(&bytes)?;
    Ok(deflate.finish()?.len() + ZIP_HEADERS + 2 * name)
}

/// Installs the peers, the same close with the usual libraries of Node.js and Python, and returns them.
///
/// # Errors
/// When Node.js, npm or Python 3 with pip is missing, or a package can't be installed.
pub fn peers() -> anyhow::Result<Vec<Program>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the sandbox lies in a workspace")?;
    let mut install = Command::new(workspace.join("benches/peers/install"));
    let output = install.stderr(Stdio::inherit()).output().context("can't run benches/peers/install")?;
    ensure!(output.status.success(), "benches/peers/install failed with {}", output.status);
    let peers = [("Node.js with tenpay", "node", "function.js"), ("Python with wechatpy", "python", "function.py")];
    let interpreters = String::from_utf8(output.stdout)?;
    let programs = interpreters.lines().zip(peers).map(|(interpreter, (name, folder, script))| {
        let package = workspace.join("target/peers").join(folder);
        Program { script: Some(package.join(script)), package, ..Program::new(name, Kind::Peer, interpreter.into()) }
    });
    Ok(programs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_zip_has_its_subfolders_but_not_what_is_not_deployed() {
        let folder = tempfile::tempdir().unwrap();
        // What can't be compressed.
        let mut random = fastrand::Rng::with_seed(1);
        for name in ["function.py", "library/code.py", "library/__pycache__/code.pyc"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, std::iter::repeat_with(|| random.u8(..)).take(10_000).collect::<Vec<_>>()).unwrap();
        }
        let size = Program::new("Python", Kind::Peer, folder.path().into()).zip_size().unwrap();
        assert!((20_000..20_500).contains(&size), "{size}");
    }
}
