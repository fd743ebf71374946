//! What is measured: close-order, the baseline, and whatever else is a Lambda function.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::mock::function::FunctionBuilder;

/// What a program does, and so which answer is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It answers with the event.
    Baseline,
    /// It closes the order, or every order of an SQS batch.
    CloseOrder,
    /// It closes the order; what else it can do is found out.
    Other,
}

/// A program to measure.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name in the table.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    path: PathBuf,
    arguments: Vec<String>,
    /// The file or folder that is uploaded, if it is known.
    package: Option<PathBuf>,
}

impl Program {
    /// The baseline.
    #[must_use]
    pub fn baseline(path: PathBuf) -> Self {
        Self::of_one_file("baseline", Kind::Baseline, path)
    }

    /// The function of this workspace.
    #[must_use]
    pub fn close_order(path: PathBuf) -> Self {
        Self::of_one_file("close-order", Kind::CloseOrder, path)
    }

    fn of_one_file(name: &str, kind: Kind, path: PathBuf) -> Self {
        Self { name: name.to_owned(), kind, package: Some(path.clone()), path, arguments: Vec::new() }
    }

    /// Any other function that takes the same events and gives the same answers: a program and its arguments, separated
    /// by white space.
    ///
    /// # Errors
    /// When there is no program in the command.
    pub fn other(command: &str) -> anyhow::Result<Self> {
        let mut words = command.split_ascii_whitespace().map(str::to_owned);
        let path = PathBuf::from(words.next().context("the command has no program")?);
        let name = path.file_name().map_or_else(|| command.to_owned(), |name| name.to_string_lossy().into_owned());
        let arguments: Vec<String> = words.collect();
        // A program with arguments is an interpreter, or a command that is looked up: not what is uploaded.
        let package = (arguments.is_empty() && path.is_file()).then(|| path.clone());
        Ok(Self { name, kind: Kind::Other, path, arguments, package })
    }

    /// A script of another language, in the folder that would be uploaded.
    pub(super) fn script(name: String, interpreter: PathBuf, script: &str, package: PathBuf) -> Self {
        let arguments = vec![package.join(script).to_string_lossy().into_owned()];
        Self { name, kind: Kind::Other, path: interpreter, arguments, package: Some(package) }
    }

    /// The file or folder that is uploaded, if it is known.
    pub(super) fn package(&self) -> Option<&Path> {
        self.package.as_deref()
    }

    /// The program as a function, with nothing around it yet.
    pub(super) fn function(&self, environment: impl Fn(&Path) -> FunctionBuilder) -> FunctionBuilder {
        self.arguments.iter().fold(environment(&self.path), |function, argument| function.arg(argument))
    }
}
