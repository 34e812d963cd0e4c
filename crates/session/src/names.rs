//! Router names that sessions refer to by number.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// The most names that are kept, so that a peer cannot fill the memory with them; sessions from
/// further routers are shown without a name.
const MOST: usize = 16_384;

/// Names in the order they were first seen.
#[derive(Debug)]
pub(crate) struct Names {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u16, FixedState>,
}

impl Names {
    /// The number of the router's own name.
    pub(crate) const OWN: u16 = 0;
    /// The number of every name there was no room for.
    const UNKNOWN: u16 = u16::MAX;

    /// Only the router's own name. `secret` keeps peers from choosing names that collide.
    pub(crate) fn new(own: &str, secret: u64) -> Self {
        let numbers = HashMap::with_hasher(FixedState::with_seed(secret));
        let mut names = Self { names: Vec::new(), numbers };
        names.number(own);
        names
    }

    /// The number of a name.
    pub(crate) fn number(&mut self, name: &str) -> u16 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        if self.names.len() >= MOST {
            return Self::UNKNOWN;
        }
        let (name, number) = (Arc::<str>::from(name), self.names.len() as u16);
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }

    /// The name; empty for those there was no room for.
    pub(crate) fn name(&self, number: u16) -> &str {
        self.names.get(usize::from(number)).map_or("", |name| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_numbers_and_are_bounded() {
        let mut names = Names::new("own", 7);
        assert_eq!((names.number("own"), names.number("far"), names.number("far")), (Names::OWN, 1, 1));
        for number in 0..100_000 {
            names.number(&format!("router-{number}"));
        }
        assert_eq!(names.names.len(), MOST);
        assert_eq!(names.name(1), "far");
        let late = names.number("too-late");
        assert_ne!(late, Names::OWN);
        assert_eq!(names.name(late), "");
    }
}
