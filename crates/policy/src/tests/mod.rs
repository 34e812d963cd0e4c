//! What a snapshot answers, by the rules and by a reference that follows their text.

mod answers;
mod fixture;
mod reference;
mod rules;
