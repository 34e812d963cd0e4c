//! Dense identifiers: each is the index of an element in one [`crate::model::RouterModel`].
//!
//! They are valid for that model only. What must survive a reload is kept by name.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $repr:ty) => {
        id!($(#[$doc])* $name, $repr, <$repr>::MAX);
    };
    ($(#[$doc:meta])* $name:ident, $repr:ty, $mask:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $repr);

        impl $name {
            /// The position in the model's list.
            #[must_use]
            pub const fn index(self) -> usize {
                (self.0 & $mask) as usize
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
    ///
    /// It also names the other side of the interface, where what was sent to the router's own address
    /// of source NAT comes back ([`InterfaceId::hairpin`]). What arrives from the network never bears
    /// that name, so nobody out there can pretend to be what comes back.
    InterfaceId, u16, !HAIRPIN
);

/// The highest bit of an [`InterfaceId`].
const HAIRPIN: u16 = 1 << 15;

impl InterfaceId {
    /// How many interfaces a router can have.
    pub const COUNT: usize = HAIRPIN as usize;

    /// The other side of the interface.
    #[must_use]
    pub const fn hairpin(self) -> Self {
        Self(self.0 | HAIRPIN)
    }

    /// Whether this is the other side of an interface.
    #[must_use]
    pub const fn is_hairpin(self) -> bool {
        self.0 & HAIRPIN != 0
    }

    /// The interface itself, whichever of its sides this is.
    #[must_use]
    pub const fn straight(self) -> Self {
        Self(self.0 & !HAIRPIN)
    }
}

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
