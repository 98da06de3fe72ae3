//! The destination's side: dialling it, and speaking HTTP with it.
