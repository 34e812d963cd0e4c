//! Routers and the links between them, ready to be run.

use fairway_config::Authority;
use fairway_types::InterfaceId;
use fairway_types::model::RouterModel;

use crate::fabric::{BACK, Fabric, NEXT};
use crate::network::NodeId;

/// A wire between two routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interfaces it joins.
    pub ends: [(NodeId, InterfaceId); 2],
}

/// The models of all routers and the links between them. Interfaces without a link lead to hosts.
#[derive(Clone, Debug)]
pub struct Topology {
    /// By [`NodeId`].
    pub models: Vec<RouterModel>,
    /// All links.
    pub links: Vec<Link>,
}

impl Topology {
    /// A chain of routers.
    #[must_use]
    pub fn chain(fabric: &Fabric) -> Self {
        let models = (0..fabric.routers).map(|router| fabric.model(router)).collect();
        let links = (1..usize::from(fabric.routers))
            .map(|right| Link { ends: [(NodeId(right - 1), NEXT), (NodeId(right), BACK)] })
            .collect();
        Self { models, links }
    }

    /// The routers of an authority, by their order in it. Interfaces whose waypoints are the two ends
    /// of a peer path are joined by a link.
    ///
    /// # Panics
    /// When the authority makes no models, or a path leads nowhere: a mistake of the test.
    #[must_use]
    pub fn of(authority: &Authority) -> Self {
        let model = |router: &fairway_config::elements::Router| {
            let model = authority.router_model(&router.name);
            assert!(model.is_ok(), "{:?}", model.as_ref().err());
            model.into_iter()
        };
        let models: Vec<RouterModel> = authority.routers.iter().flat_map(model).collect();
        let mut links: Vec<Link> = Vec::new();
        for (node, model) in models.iter().enumerate() {
            for path in &model.paths {
                let peer = &model.peers[path.peer.index()].name;
                let far = models.iter().position(|other| other.router == *peer);
                let ends = far.and_then(|far| {
                    let back = models[far].paths.iter().find(|back| back.local == path.remote)?;
                    Some([(NodeId(node), path.interface), (NodeId(far), back.interface)])
                });
                assert!(ends.is_some(), "a path has two ends");
                links.extend(ends.filter(|ends| ends[0] < ends[1]).map(|ends| Link { ends }));
            }
        }
        links.dedup();
        Self { models, links }
    }

    /// The interface of a router by its name.
    #[must_use]
    pub fn interface(&self, node: NodeId, name: &str) -> Option<InterfaceId> {
        let interfaces = &self.models.get(node.0)?.interfaces;
        (0u16..).map(InterfaceId).zip(interfaces).find(|(_, i)| i.name == name).map(|(id, _)| id)
    }
}
