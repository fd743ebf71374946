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

/// What a zip has beside a file's bytes: local header, central header, an end, and twice the name `bootstrap`.
const ZIP_OVERHEAD: u64 = 30 + 46 + 22 + 2 * 9;

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
    /// The file that is uploaded: the program, zipped or not yet.
    package: PathBuf,
}

impl Program {
    /// A program that is one file.
    pub fn new(name: &str, kind: Kind, path: PathBuf) -> Self {
        Self { name: name.to_owned(), kind, package: path.clone(), path, script: None }
    }

    /// How large its zip is, in bytes: of one file, which Lambda starts as `bootstrap`, or the one that a peer has.
    pub(super) fn zip_size(&self) -> anyhow::Result<u64> {
        let can_not = || format!("can't read {}", self.package.display());
        if self.script.is_some() {
            return Ok(fs::metadata(&self.package).with_context(can_not)?.len());
        }
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
        deflate.write_all(&fs::read(&self.package).with_context(can_not)?)?;
        Ok(u64::try_from(deflate.finish()?.len())? + ZIP_OVERHEAD)
    }
}

/// Installs the peers, the same close with the usual libraries of Node.js and Python, and returns them.
pub fn peers() -> anyhow::Result<Vec<Program>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(workspace.join("benches/peers/install")).stderr(Stdio::inherit()).output();
    let output = output.context("can't run benches/peers/install")?;
    ensure!(output.status.success(), "benches/peers/install failed with {}", output.status);
    let peers = workspace.join("target/peers");
    let rows = [("Node.js with tenpay", "node", "function.js"), ("Python with wechatpy", "python", "function.py")];
    let interpreters = String::from_utf8(output.stdout)?;
    let programs = interpreters.lines().zip(rows).map(|(interpreter, (name, folder, script))| {
        let (folder, package) = (peers.join(folder), peers.join(format!("{folder}.zip")));
        Program { script: Some(folder.join(script)), package, ..Program::new(name, Kind::Peer, interpreter.into()) }
    });
    Ok(programs.collect())
}
