//! Dense identifiers: each is the index of an element in one [`crate::model::RouterModel`].
//!
//! They are valid for that model only. What must survive a reload is kept by name.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $repr:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $repr);

        impl $name {
            /// The position in the model's list.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id!(
    /// A network-interface of this router. Stable across reloads while the interface keeps its
    /// name: the daemon assigns it, the configuration only names it.
    InterfaceId, u16
);
id!(
    /// A tenant of the authority.
    TenantId, u16
);
id!(
    /// A service of the authority.
    ServiceId, u32
);
id!(
    /// A peer: another router of the authority that this router has an adjacency with.
    PeerId, u16
);
id!(
    /// A peer path: one local waypoint, one remote waypoint.
    PathId, u16
);
id!(
    /// A service-route of this router.
    RouteId, u32
);
id!(
    /// A security policy.
    SecurityId, u16
);
id!(
    /// A session-type.
    SessionTypeId, u16
);
