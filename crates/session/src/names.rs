//! Router names that sessions refer to by number.

/// The most names that are kept; sessions from further routers are shown without a name.
const MOST: usize = u16::MAX as usize;

/// Names in the order they were first seen. The router's own is number zero.
#[derive(Debug)]
pub(crate) struct Names(Vec<Box<str>>);

impl Names {
    pub(crate) fn new(own: &str) -> Self {
        Self(vec![own.into()])
    }

    /// The number of a name; zero when there is no room for another.
    pub(crate) fn number(&mut self, name: &str) -> u16 {
        if let Some(found) = self.0.iter().position(|known| &**known == name) {
            return found as u16;
        }
        if self.0.len() >= MOST {
            return 0;
        }
        self.0.push(name.into());
        (self.0.len() - 1) as u16
    }

    pub(crate) fn name(&self, number: u16) -> &str {
        self.0.get(usize::from(number)).map_or("", |name| name)
    }
}
