//! Policies in AWS's language: read strictly, and evaluated without looking at anything but the arguments.
//!
//! `document` reads policies and refuses what it does not know; `condition`, `operand` and `pattern` have the operators, the
//! values that they compare with and the wildcards; `who` has principals; `keys` the condition keys that mean something here;
//! `grant` has grants; `decide` says who may, and why. What a request is about (`Context`) is gathered by whoever asks.

mod condition;
mod context;
mod decide;
mod document;
mod grant;
mod json;
mod keys;
mod malformed;
mod operand;
mod pattern;
mod who;

pub use context::Context;
pub use decide::{Decision, Missing, Named, Place, Policies, Reason, Request, Source, decide};
pub use document::{Document, Kind};
pub use grant::{Constraint, Grant, arn_of};
pub use json::read as read_json;
pub use malformed::Malformed;
pub use who::Who;
