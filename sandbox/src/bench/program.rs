//! What is measured: close-order, the floor beneath it, and whatever else is a Lambda function.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::mock::function::FunctionBuilder;

/// What a program does, and so which answer is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It answers with the event.
    Floor,
    /// It closes the order, or every order of an SQS batch.
    CloseOrder,
    /// It closes the order.
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
}

impl Program {
    /// The floor.
    #[must_use]
    pub fn floor(path: PathBuf) -> Self {
        Self { name: "floor".to_owned(), kind: Kind::Floor, path, arguments: Vec::new() }
    }

    /// The function of this workspace.
    #[must_use]
    pub fn close_order(path: PathBuf) -> Self {
        Self { name: "close-order".to_owned(), kind: Kind::CloseOrder, path, arguments: Vec::new() }
    }

    /// Any other function that takes the same events and answers alike: a program and its arguments, by spaces.
    ///
    /// # Errors
    /// When there is no program in the command.
    pub fn other(command: &str) -> anyhow::Result<Self> {
        let mut words = command.split_ascii_whitespace().map(str::to_owned);
        let path = PathBuf::from(words.next().context("the command has no program")?);
        let name = path.file_name().map_or_else(|| command.to_owned(), |name| name.to_string_lossy().into_owned());
        Ok(Self { name, kind: Kind::Other, path, arguments: words.collect() })
    }

    /// The one file that is uploaded, if the program is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.arguments.is_empty().then_some(self.path.as_path())
    }

    /// The program as a function, with nothing around it yet.
    pub(super) fn function(&self, environment: impl Fn(&Path) -> FunctionBuilder) -> FunctionBuilder {
        self.arguments.iter().fold(environment(&self.path), |function, argument| function.arg(argument))
    }
}
