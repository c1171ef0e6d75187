//! The daemon as its operator meets it: who is let in, what is answered to good and bad requests, how it starts and ends.

mod admission;
mod confined;
mod document;
mod life;
mod requests;
mod start;
mod support;
mod unit;
mod words;
