//! What is measured: close-order, the baseline, and the same close in other languages.

use std::path::{Path, PathBuf};

use crate::mock::{function::FunctionBuilder, identity::Api};

/// What a program does, and so which answer is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It answers with the event.
    Baseline,
    /// It closes the order, or every order of an SQS batch.
    CloseOrder,
    /// It closes the order of a direct call.
    Peer,
}

/// A program to measure.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name in the table.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// Which interface of WeChat Pay it speaks.
    pub(super) api: Api,
    path: PathBuf,
    /// The script, if the program is its interpreter.
    script: Option<PathBuf>,
    /// The file or folder that is uploaded.
    package: PathBuf,
}

impl Program {
    /// The baseline.
    #[must_use]
    pub fn baseline(path: PathBuf) -> Self {
        let name = "baseline".to_owned();
        Self { name, kind: Kind::Baseline, api: Api::V2, package: path.clone(), path, script: None }
    }

    /// The function of this workspace.
    #[must_use]
    pub fn close_order(path: PathBuf) -> Self {
        Self { name: "close-order".to_owned(), kind: Kind::CloseOrder, ..Self::baseline(path) }
    }

    /// The same with a secret for API v3.
    #[must_use]
    pub fn close_order_v3(path: PathBuf) -> Self {
        Self { name: "close-order, API v3".to_owned(), api: Api::V3, ..Self::close_order(path) }
    }

    /// Another build of the function, under its path.
    #[must_use]
    pub fn other_build(path: PathBuf) -> Self {
        Self { name: path.display().to_string(), ..Self::close_order(path) }
    }

    /// A script of another language, in the folder that would be uploaded.
    pub(super) fn script(name: &str, interpreter: PathBuf, script: &str, package: PathBuf) -> Self {
        let script = Some(package.join(script));
        Self { name: name.to_owned(), kind: Kind::Peer, api: Api::V2, path: interpreter, script, package }
    }

    /// The file or folder that is uploaded.
    pub(super) fn package(&self) -> &Path {
        &self.package
    }

    /// The program as a function, with nothing around it yet.
    pub(super) fn function(&self, environment: impl Fn(&Path) -> FunctionBuilder) -> FunctionBuilder {
        self.script.iter().fold(environment(&self.path), |function, script| function.arg(&script.to_string_lossy()))
    }
}
