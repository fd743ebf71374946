//! What becomes of an event that a function is given.

use std::time::Duration;

use serde_json::Value;

use crate::mock::runtime::{Answer, Ids};

/// What became of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The function answered.
    Answered(Answer),
    /// The function did not answer before its deadline; Lambda would have stopped it, and so it was.
    TimedOut,
    /// The function ended.
    Exited,
}

/// One event's way through the function.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// What became of it.
    pub outcome: Outcome,
    /// How long that took.
    pub took: Duration,
    /// Its request id and trace id.
    pub ids: Ids,
}

impl Invocation {
    /// The result, as JSON; `Null` when there is none.
    #[must_use]
    pub fn json(&self) -> Value {
        match &self.outcome {
            Outcome::Answered(answer) => answer.json(),
            Outcome::TimedOut | Outcome::Exited => Value::Null,
        }
    }

    /// The `errorType` of a function error, in Lambda's own words where the function had none.
    #[must_use]
    pub fn error_type(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Answered(answer) => answer.error_type(),
            Outcome::TimedOut => Some("Sandbox.Timedout".to_owned()),
            Outcome::Exited => Some("Runtime.ExitError".to_owned()),
        }
    }

    /// The text that the function sent; empty when it sent none.
    #[must_use]
    pub fn text(&self) -> &str {
        match &self.outcome {
            Outcome::Answered(answer) => answer.text(),
            Outcome::TimedOut | Outcome::Exited => "",
        }
    }
}
