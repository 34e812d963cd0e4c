//! What `fairway show` shows, and how.

use clap::{Args, Subcommand, ValueEnum};

use super::{SessionFilter, SocketArgs, prefix, protocol};

/// `fairway show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// What to show.
    #[command(subcommand)]
    pub object: ShowObject,
}

/// What `fairway show` shows.
#[derive(Debug, Subcommand)]
pub enum ShowObject {
    /// Sessions with their service, tenant, addresses, path and bytes.
    Sessions(ShowSessions),
    /// Both flows of each session: what is matched, and what it is rewritten to.
    Flows(ShowSessions),
    /// Services by destination, with who may reach them and where they go.
    Fib(ShowFib),
    /// Peer routers and the paths to them.
    Peers(ShowPlain),
    /// Network interfaces.
    Interfaces(ShowPlain),
    /// Waypoint ports in use on each path.
    Waypoints(ShowPlain),
    /// Ports of source NAT in use on each address.
    Nat(ShowPlain),
    /// Workers: sessions and packets of each, and what they hand to each other.
    Workers(ShowPlain),
    /// Limits by how near they are to being reached, with what they refused.
    Limits(ShowLimits),
    /// Everything that is counted, except drops.
    Counters(ShowCounters),
    /// Dropped packets by reason, with the last example of each.
    Drops(ShowDrops),
    /// The router itself: version, configuration, uptime, table sizes.
    Status(ShowPlain),
}

/// What all objects of `show` have in common.
#[derive(Debug, Args)]
pub struct ShowPlain {
    /// The router.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `fairway show sessions` and `flows`.
#[derive(Debug, Args)]
pub struct ShowSessions {
    /// The router and the form.
    #[command(flatten)]
    pub plain: ShowPlain,
    /// Which sessions.
    #[command(flatten)]
    pub filter: SessionFilter,
    /// Show at most so many.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub limit: usize,
    /// What comes first. Among more than 50000 sessions, only those are looked at.
    #[arg(long, value_enum, default_value_t = SessionOrder::Bytes)]
    pub sort: SessionOrder,
}

/// In which order sessions are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SessionOrder {
    /// Most bytes first.
    Bytes,
    /// Youngest first.
    Age,
    /// Most recently used first.
    Idle,
    /// By service, tenant and addresses.
    Service,
    /// By tenant, service and addresses.
    Tenant,
}

/// `fairway show fib`.
#[derive(Debug, Args)]
pub struct ShowFib {
    /// The router and the form.
    #[command(flatten)]
    pub plain: ShowPlain,
    /// Only this service.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only rows about this tenant.
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Only this protocol: tcp, udp, icmp, icmp6, gre, esp, sctp or a number.
    #[arg(long, value_parser = protocol)]
    pub protocol: Option<u8>,
    /// Only prefixes that hold this address or prefix.
    #[arg(long, value_name = "ADDRESS", value_parser = prefix)]
    pub address: Option<ipnet::IpNet>,
    /// Only rows that hold this destination port.
    #[arg(long)]
    pub port: Option<u16>,
    /// Show at most so many.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub limit: usize,
}

/// `fairway show counters`.
#[derive(Debug, Args)]
pub struct ShowCounters {
    /// The router and the form.
    #[command(flatten)]
    pub plain: ShowPlain,
    /// Also those that are zero.
    #[arg(long)]
    pub all: bool,
    /// Say what each counter counts.
    #[arg(long)]
    pub explain: bool,
}

/// `fairway show limits`.
#[derive(Debug, Args)]
pub struct ShowLimits {
    /// The router and the form.
    #[command(flatten)]
    pub plain: ShowPlain,
    /// Also those of tenants, peers and paths that never had anything.
    #[arg(long)]
    pub all: bool,
}

/// `fairway show drops`.
#[derive(Debug, Args)]
pub struct ShowDrops {
    /// The router and the form.
    #[command(flatten)]
    pub plain: ShowPlain,
    /// Also reasons that never occurred.
    #[arg(long)]
    pub all: bool,
    /// Say what each reason means.
    #[arg(long)]
    pub explain: bool,
}
